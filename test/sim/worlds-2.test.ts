import { simulate } from '../support/sim/seeds.ts';

simulate(2, 4);
