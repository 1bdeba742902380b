import { simulateWorlds } from '../support/sim/worlds.ts';

simulateWorlds(4);
