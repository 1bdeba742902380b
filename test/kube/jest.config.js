import config from '../../jest.config.js';

/** Tests on a real Kubernetes: `make kube-test`. */
export default {
  ...config,
  rootDir: '../..',
  testMatch: ['<rootDir>/test/kube/**/*.test.ts'],
  testPathIgnorePatterns: ['/node_modules/'],
  testTimeout: 600_000,
  maxWorkers: 1,
};
