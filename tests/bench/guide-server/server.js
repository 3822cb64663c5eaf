/**
 * The guide's own design as a fair opponent for tests/bench.py, written after the guide's snippet:
 * a Map of clients with nanoid ids, and one formatted write per client and message.
 *
 * Environment: PORT (0 picks one), STORE = memory | sqlite | pg, SQLITE_FILE, DATABASE_URL.
 * With `sqlite` and `pg` a message is committed durably before anybody hears of it.
 */
import express from 'express';
import { nanoid } from 'nanoid';

const SQLITE_SCHEMA = `CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT,
  content TEXT NOT NULL, recipient_count INTEGER NOT NULL, sent_at TEXT DEFAULT CURRENT_TIMESTAMP)`;
const PG_SCHEMA = `CREATE TABLE messages (id bigserial PRIMARY KEY, type text,
  content jsonb NOT NULL, recipient_count integer NOT NULL, sent_at timestamptz DEFAULT now())`;

/** As in the snippet: nothing is kept. */
async function memoryStore() {
  return () => {};
}

/** better-sqlite3 where it could be installed, else Node's own; both have exec() and prepare(). */
async function openSqlite(file) {
  try {
    const { default: Database } = await import('better-sqlite3');
    return new Database(file);
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
  }
  const { DatabaseSync } = await import('node:sqlite');
  return new DatabaseSync(file);
}

async function sqliteStore() {
  const db = await openSqlite(process.env.SQLITE_FILE);
  db.exec('PRAGMA journal_mode = WAL');
  db.exec('PRAGMA synchronous = FULL');
  db.exec(SQLITE_SCHEMA);
  const insert = db.prepare('INSERT INTO messages (type, content, recipient_count) VALUES (?, ?, ?)');
  return (message, count) => insert.run(message.type ?? null, JSON.stringify(message), count);
}

async function pgStore() {
  const { default: pg } = await import('pg');
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
  await pool.query('DROP TABLE IF EXISTS messages');
  await pool.query(PG_SCHEMA);
  const insert = 'INSERT INTO messages (type, content, recipient_count) VALUES ($1, $2, $3)';
  return (message, count) =>
    pool.query(insert, [message.type ?? null, JSON.stringify(message), count]);
}

const STORES = { memory: memoryStore, sqlite: sqliteStore, pg: pgStore };
const store = await STORES[process.env.STORE ?? 'memory']();
const sseClients = new Map();
const app = express();
app.use(express.json());

app.get('/api/events', (req, res) => {
  const client = { id: nanoid(), response: res };
  sseClients.set(client.id, client);
  res.writeHead(200, {
    'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache', 'Connection': 'keep-alive',
  });
  // Not in the snippet, but without them a browser's `open` waits for the first message and a
  // closed connection is written to for ever.
  res.flushHeaders();
  req.on('close', () => sseClients.delete(client.id));
});

app.post('/api/broadcast', async (req, res) => {
  const message = req.body;
  await store(message, sseClients.size);
  sseClients.forEach(client => { client.response.write(`data: ${JSON.stringify(message)}\n\n`); });
  res.json({ success: true, recipientCount: sseClients.size });
});

const server = app.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  console.log(`guide listening on http://127.0.0.1:${server.address().port}`);
});
process.on('SIGTERM', () => process.exit(0));
