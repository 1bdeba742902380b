import { simulate } from '../support/sim/seeds.ts';

simulate(3, 4);
