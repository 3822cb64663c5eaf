/**
 * Node's Socket.IO as a fair opponent for tests/bench.py: in memory, its defaults, and one
 * `io.emit` for each message that is posted, which encodes it once for all clients.
 *
 * Environment: PORT (0 picks one).
 */
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const http = createServer((request, response) => {
  const parts = [];
  request.on('data', part => parts.push(part));
  request.on('end', () => {
    if (request.method === 'POST') io.emit('message', JSON.parse(Buffer.concat(parts)));
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify({ success: true, recipientCount: io.engine.clientsCount }));
  });
});
const io = new Server(http, { serveClient: false });

http.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  console.log(`Socket.IO listening on http://127.0.0.1:${http.address().port}`);
});
process.on('SIGTERM', () => process.exit(0));
