/** The page for an address where there is nothing. */
import { startPage } from './page.js';

await startPage();
