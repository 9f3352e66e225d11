import { restBetweenPolls } from '../polls.ts';

restBetweenPolls(); // for every test file
