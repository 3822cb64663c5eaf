/** The page for an address where there is nothing. */
import './header.js';
import { startPage } from './page.js';

await startPage();
