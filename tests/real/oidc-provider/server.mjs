// An OAuth 2.0 server for tests: client credentials, short-lived JWT access tokens.
// PORT is where it listens, TOKEN_LIFETIME the life of a token in seconds.
import { createServer } from 'node:http';
import * as jose from 'jose';
import Provider, { errors } from 'oidc-provider';

const port = Number(process.env.PORT);
const lifetime = Number(process.env.TOKEN_LIFETIME);
const issuer = `http://127.0.0.1:${port}`;
const api = 'https://api.example.com';

const { privateKey } = await jose.generateKeyPair('RS256', { extractable: true });
const signingKey = { ...(await jose.exportJWK(privateKey)), kid: 'signing', use: 'sig', alg: 'RS256' };

const machine = { redirect_uris: [], response_types: [], grant_types: ['client_credentials'] };
const clients = [
  { client_id: 'basic', client_secret: 's3cr:t%+ &~', token_endpoint_auth_method: 'client_secret_basic', ...machine },
  { client_id: 'post', client_secret: 'post-s3cr:t%+ &~', token_endpoint_auth_method: 'client_secret_post', ...machine },
];

const provider = new Provider(issuer, {
  clients,
  jwks: { keys: [signingKey] },
  scopes: ['read'],
  ttl: { ClientCredentials: () => lifetime },
  clientAuthMethods: ['client_secret_basic', 'client_secret_post'],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => api,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => {
        if (resource !== api) throw new errors.InvalidTarget();
        return {
          scope: 'read',
          audience: api,
          accessTokenTTL: lifetime,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        };
      },
    },
  },
});
provider.on('grant.success', (ctx) => console.log('token for', ctx.oidc.client.clientId));
provider.on('grant.error', (ctx, error) => console.log('refused:', error.message, error.error_detail ?? ''));
provider.on('server_error', (ctx, error) => console.log('server error:', error));

createServer(provider.callback()).listen(port, '127.0.0.1', () => console.log('listening on', issuer));

// The harness holds the other end: when it is gone, so are we.
process.stdin.on('close', () => process.exit()).resume();
