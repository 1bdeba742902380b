import js from '@eslint/js';
import ts from 'typescript-eslint';

/** Files that compute and never act: what they do depends on their arguments alone. */
const PURE = [
  'src/std/**/*.ts',
  'src/core/**/*.ts',
  'src/trust/**/*.ts',
  'src/wire/**/*.ts',
  'operator/plan/**/*.ts',
];
/** Files that a simulation runs on a virtual clock with seeded chance. */
const SIMULATED = ['src/log/**/*.ts', 'src/cluster/**/*.ts', 'src/broker/**/*.ts'];
/** The one file that reads the machine's clock and chance. */
const SYSTEM = 'src/std/system.ts';
/** Files that build the parts, read the environment and handle signals. */
const ROOTS = ['src/cli/**/*.ts', 'src/main.ts', 'src/embedded.ts', 'operator/main.ts'];

const ban = (message, ...names) => names.map((name) => ({ name, message }));
const TIMERS = ban('Take a Clock (src/std/clock.ts).', 'setTimeout', 'setInterval', 'setImmediate');
const CLOCK = [
  ...TIMERS,
  ...ban('Take a Clock (src/std/clock.ts).', 'Date', 'performance', 'queueMicrotask'),
];
const CHANCE = ban('Take a Random (src/std/clock.ts).', 'crypto');
const OUTSIDE = ban('Pure code has no surroundings: pass the value in.', 'process', 'fetch', 'console');
const noGlobals = (globals) => ['error', { globals, checkGlobalObject: true }];

const NOW = { object: 'Date', property: 'now', message: 'Take a Clock (src/std/clock.ts).' };
const MATH_RANDOM = { object: 'Math', property: 'random', message: 'Take a Random (src/std/clock.ts).' };
const PROCESS = ['env', 'argv', 'exit', 'exitCode', 'on', 'once', 'stdout', 'stderr'].map((property) => ({
  object: 'process',
  property,
  message: 'Only the roots touch the process: pass the value in.',
}));

export default ts.config(
  {
    ignores: ['**/node_modules/**', 'dist/**', 'coverage/**', 'src/wire/gen/**', 'tools/lint/**', '**/*.js'],
  },
  js.configs.recommended,
  ts.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true } },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      eqeqeq: 'error',
      'no-var': 'error',
      'object-shorthand': 'error',
      'prefer-const': 'error',
      '@typescript-eslint/consistent-type-definitions': 'off',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unused-vars': 'off', // tsc says it
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
    },
  },
  {
    files: ['src/**/*.ts', 'operator/**/*.ts'],
    ignores: [...ROOTS, SYSTEM],
    rules: {
      'no-console': 'error',
      'no-restricted-globals': noGlobals(TIMERS),
      'no-restricted-properties': ['error', NOW, MATH_RANDOM, ...PROCESS],
    },
  },
  {
    files: SIMULATED,
    rules: { 'no-restricted-globals': noGlobals([...CLOCK, ...CHANCE]) },
  },
  {
    files: PURE,
    ignores: [SYSTEM],
    rules: { 'no-restricted-globals': noGlobals([...CLOCK, ...CHANCE, ...OUTSIDE]) },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/unbound-method': 'off',
    },
  },
);
