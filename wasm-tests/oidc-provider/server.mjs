// A certified OAuth authorization server for the client credentials grant, on a free port of loopback:
//
//   node server.mjs [SECONDS THAT A TOKEN LIVES]
//
// It prints one line of JSON when it is ready and ends when its standard input ends, so that it does not
// outlive the process that started it. oidc_provider.rs is that process and knows the same clients.

import { X509Certificate, generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

// Standard output is for the one line; the library puts its notices there too.
console.info = console.error;
const { default: Provider, errors } = await import('oidc-provider');

const LIFETIME = Number(process.argv[2] ?? 3600);
const SCOPES = ['mcp:tools', 'mcp:read'];
const RESOURCE_HOST = 'tools.example';

// Made anew for each run: nothing that looks like a secret key is in the repository.
const keyPairs = {
  rs256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  es256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
};

function client(id, method, metadata) {
  return {
    client_id: id,
    token_endpoint_auth_method: method,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    ...metadata,
  };
}

function keyClient(name) {
  const alg = name.toUpperCase();
  const key = { ...keyPairs[name].publicKey.export({ format: 'jwk' }), kid: `${name}-key`, alg, use: 'sig' };
  return client(name, 'private_key_jwt', { token_endpoint_auth_signing_alg: alg, jwks: { keys: [key] } });
}

const clients = [
  // RFC 6749 §2.3.1: neither of these survives Basic unless each is form-encoded first.
  client('id:1 x', 'client_secret_basic', { client_secret: 's:e c+r/e%t' }),
  client('post', 'client_secret_post', { client_secret: 'p&o=s+t %secret' }),
  client('secret-jwt', 'client_secret_jwt', {
    client_secret: 'a test secret of at least 32 bytes',
    token_endpoint_auth_signing_alg: 'HS256',
  }),
  keyClient('rs256'),
  keyClient('es256'),
  client('mtls', 'tls_client_auth', { tls_client_auth_san_dns: 'client.example' }),
  client('resource-server', 'client_secret_basic', { client_secret: 'resource-server-secret', grant_types: [] }),
];

// TLS ends at a proxy in front, which verifies the certificate and passes it on as PEM, percent-encoded:
// what Envoy's %DOWNSTREAM_PEER_CERT% gives.
function certificateOf(ctx) {
  try {
    return new X509Certificate(decodeURIComponent(ctx.get('x-client-certificate')));
  } catch {
    return undefined;
  }
}

// The library takes a secret from the header and from the body alike, whatever its client is registered for.
function usedMethod(ctx) {
  if (ctx.get('authorization')) {
    return 'client_secret_basic';
  }
  return ctx.oidc.params.client_secret ? 'client_secret_post' : ctx.oidc.client.clientAuthMethod;
}

const configuration = {
  clients,
  scopes: SCOPES,
  clientAuthMethods: [
    'client_secret_basic',
    'client_secret_post',
    'client_secret_jwt',
    'private_key_jwt',
    'tls_client_auth',
  ],
  ttl: { ClientCredentials: LIFETIME },
  // Introspection shows these, so that a test sees how the client authenticated.
  extraTokenClaims: (ctx) => ({ auth_method: usedMethod(ctx) }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: {
      enabled: true,
      allowedPolicy: (_ctx, { clientId }) => clientId === 'resource-server',
    },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      getCertificate: certificateOf,
      certificateAuthorized: (ctx) => certificateOf(ctx) !== undefined,
      certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_san_dns'
        && certificateOf(ctx).checkHost(expected, { subject: 'never' }) !== undefined,
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_ctx, resource) => {
        const { protocol, hostname } = new URL(resource);
        if (!['http:', 'https:'].includes(protocol) || hostname !== RESOURCE_HOST) {
          throw new errors.InvalidTarget('unknown resource');
        }
        return { scope: SCOPES.join(' '), accessTokenFormat: 'opaque' };
      },
    },
  },
};

// The issuer has the port in it, so the socket comes before the provider.
const server = createServer();
// An idle connection is never closed: a request on a pooled one would now and then meet the close.
server.keepAliveTimeout = 0;
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, configuration);
// What the answer keeps from the client helps whoever looks for the reason of a failed test.
for (const event of ['grant.error', 'introspection.error']) {
  provider.on(event, (_ctx, { error, error_detail: detail, error_description: description }) => {
    console.error(`${event}: ${error}: ${detail ?? description}`);
  });
}
provider.on('server_error', (_ctx, error) => console.error('server_error:', error));
server.on('request', provider.callback());

process.stdin.on('end', () => process.exit()).resume();

const pem = ({ privateKey }) => privateKey.export({ type: 'pkcs8', format: 'pem' });
console.log(JSON.stringify({
  issuer,
  token: `${issuer}/token`,
  introspection: `${issuer}/token/introspection`,
  keys: { rs256: pem(keyPairs.rs256), es256: pem(keyPairs.es256) },
}));
