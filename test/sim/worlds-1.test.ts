import { simulate } from '../support/sim/seeds.ts';

simulate(1, 4);
