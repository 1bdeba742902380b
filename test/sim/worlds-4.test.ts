import { simulate } from '../support/sim/seeds.ts';

simulate(4, 4);
