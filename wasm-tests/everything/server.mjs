// The reference server of MCP over streamable HTTP, on a free port of loopback:
//
//   node server.mjs
//
// It prints one line of JSON when it is ready and ends when its standard input ends, so that it does not
// outlive the process that started it.

import { Server } from 'node:http';

// Standard output is for the one line; the package puts its notices there too.
console.log = console.error;

// The package listens where it likes, on every address and a fixed port, and says neither to nobody.
const { listen } = Server.prototype;
Server.prototype.listen = function onLoopback(_port, ready) {
  // An idle connection is never closed: a request on a pooled one would now and then meet the close.
  this.keepAliveTimeout = 0;
  this.once('listening', () => {
    process.stdout.write(`${JSON.stringify({ address: `127.0.0.1:${this.address().port}` })}\n`);
  });
  return listen.call(this, 0, '127.0.0.1', ready);
};

process.stdin.on('end', () => process.exit()).resume();

await import('@modelcontextprotocol/server-everything/dist/transports/streamableHttp.js');
