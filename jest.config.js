/** Node strips the types itself: nothing is transformed, and stack traces need no source maps. */
export default {
  testEnvironment: 'node',
  transform: {},
  extensionsToTreatAsEsm: ['.ts'],
  roots: ['<rootDir>/src', '<rootDir>/test'],
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  // They need root and minutes, a machine that does little else, or a Prometheus: make kube-test, make chaos,
  // make operator-test, make obs-test.
  testPathIgnorePatterns: [
    '/node_modules/',
    '<rootDir>/test/kube/',
    '<rootDir>/test/obs/',
    '<rootDir>/test/chaos/replicas.test.ts',
    '<rootDir>/test/operator/operator.test.ts',
  ],
  testTimeout: 20_000,
  maxWorkers: 2,
  // Each test file gets its own copy of every module, and a worker never gives the memory back.
  workerIdleMemoryLimit: '512MB',
  coverageProvider: 'v8',
  collectCoverageFrom: ['src/**/*.ts', '!src/wire/gen/**'],
};
