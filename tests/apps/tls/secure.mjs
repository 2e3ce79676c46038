// HTTPS with Node, served and asked: `secure.mjs serve CERT KEY` says its port; `secure.mjs call CERT PORT` reads
// lines of words (protocol, method, path, how many, how many at once, bytes sent, keep) and says how many
// requests of each ended with which status. `kept` is HTTP/1.1 on one connection for all lines. `secure.mjs
// alone CERT KEY` does both in one process.
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import https from 'node:https';
import readline from 'node:readline';

const [role, cert, more] = process.argv.slice(2);
const kept = new https.Agent({ keepAlive: true, maxSockets: 1 });

function answer(request, response) {
  let length = 0;
  request.on('data', (data) => { length += data.length; });
  request.on('end', () => {
    const path = request.url.split('?')[0];
    if (path === '/large') return response.end(Buffer.alloc(1_000_000, 7));
    if (path === '/taken') return response.end(String(length));
    if (path === '/slow') return setTimeout(() => response.end('slow\n'), 150);
    if (path === '/broken') { response.statusCode = 503; return response.end('no\n'); }
    if (path.startsWith('/missing')) { response.statusCode = 404; return response.end(); }
    // In pieces of unknown length.
    response.write('pie');
    response.end('ces\n');
  });
}

function serve(listening) {
  const options = { cert: readFileSync(cert), key: readFileSync(more), allowHTTP1: true };
  const server = http2.createSecureServer(options, answer);
  server.keepAliveTimeout = 600_000;
  server.listen(0, '127.0.0.1', () => listening(server.address().port));
}

function once(options, body) {
  return new Promise((done, failed) => {
    const request = https.request(options, (response) => {
      response.resume();
      response.on('end', () => done(response.statusCode));
    });
    request.on('error', failed);
    request.end(body);
  });
}

function stream(session, method, path, body) {
  return new Promise((done, failed) => {
    const request = session.request({ ':method': method, ':path': path });
    let status;
    request.on('response', (headers) => { status = headers[':status']; });
    request.on('error', failed);
    request.resume();
    request.on('end', () => done(status));
    request.end(body);
  });
}

async function call(port) {
  const ca = readFileSync(cert);
  console.log(JSON.stringify({ ready: true }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [protocol, method, path, n, atOnce, bytes, keep] = line.split(' ');
    const body = Number(bytes) > 0 ? Buffer.alloc(Number(bytes), 120) : undefined;
    const own = new https.Agent({ keepAlive: keep === 'keep', maxSockets: Number(atOnce) });
    const agent = protocol === 'kept' ? kept : own;
    const options = { host: '127.0.0.1', port, ca, agent, method, path, ALPNProtocols: ['http/1.1'] };
    const session = protocol === 'h2' ? http2.connect(`https://127.0.0.1:${port}`, { ca }) : undefined;
    const counts = {};
    let left = Number(n);
    const worker = async () => {
      while (left > 0) {
        left -= 1;
        const status = session ? await stream(session, method, path, body) : await once(options, body);
        counts[status] = (counts[status] ?? 0) + 1;
      }
    };
    await Promise.all(Array.from({ length: Number(atOnce) }, worker));
    own.destroy();
    if (session) await new Promise((closed) => session.close(closed));
    console.log(JSON.stringify(counts));
  }
}

if (role === 'serve') serve((port) => console.log(JSON.stringify({ port })));
else if (role === 'call') await call(Number(more));
else serve(call);
