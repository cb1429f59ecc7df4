// An OAuth 2.0 server for tests: short-lived JWT access tokens for client credentials, token exchange and
// JWT bearer. PORT is where it listens, TOKEN_LIFETIME the life of a token in seconds, CLIENTS further
// clients in JSON. With TLS_KEY, TLS_CERT and TLS_CA, in PEM, it listens for TLS with client certificates too,
// on a port that its metadata tells.
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { randomBytes } from 'node:crypto';
import * as jose from 'jose';
import Provider, { errors } from 'oidc-provider';

const port = Number(process.env.PORT);
const lifetime = Number(process.env.TOKEN_LIFETIME);
const issuer = `http://127.0.0.1:${port}`;
const api = 'https://api.example.com';

const { privateKey } = await jose.generateKeyPair('RS256', { extractable: true });
const signingKey = { ...(await jose.exportJWK(privateKey)), kid: 'signing', use: 'sig', alg: 'RS256' };

const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange';
const bearer = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const machine = {
  redirect_uris: [], response_types: [], grant_types: ['client_credentials', exchange, bearer],
};
const clients = [
  { client_id: 'basic', client_secret: 's3cr:t%+ &~', token_endpoint_auth_method: 'client_secret_basic', ...machine },
  { client_id: 'post', client_secret: 'post-s3cr:t%+ &~', token_endpoint_auth_method: 'client_secret_post', ...machine },
  ...JSON.parse(process.env.CLIENTS ?? '[]').map((client) => ({ ...client, ...machine })),
];

const { TLS_KEY: key, TLS_CERT: cert, TLS_CA: ca } = process.env;
const tls = key && createTlsServer({ key, cert, ca, requestCert: true, rejectUnauthorized: false });
if (tls) await new Promise((ready) => tls.listen(0, '127.0.0.1', ready));
const certificate = (ctx) => ctx.socket.getPeerX509Certificate?.();

const signing = ['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'];
const server = () => ({
  scope: 'read',
  audience: api,
  accessTokenTTL: lifetime,
  accessTokenFormat: 'jwt',
  jwt: { sign: { alg: 'RS256' } },
});

const provider = new Provider(issuer, {
  clients,
  jwks: { keys: [signingKey] },
  scopes: ['read'],
  extraTokenClaims: (ctx) => (ctx.original ? { original: ctx.original } : undefined),
  ttl: { ClientCredentials: () => lifetime },
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt',
    'tls_client_auth', 'self_signed_tls_client_auth',
  ],
  enabledJWA: {
    clientAuthSigningAlgValues: ['HS256', 'HS384', 'HS512', ...signing],
    dPoPSigningAlgValues: ['ES256', 'EdDSA', 'Ed25519'],
  },
  discovery: tls
    ? { mtls_endpoint_aliases: { token_endpoint: `https://127.0.0.1:${tls.address().port}/token` } }
    : {},
  features: {
    dPoP: {
      enabled: true,
      nonceSecret: randomBytes(32),
      requireNonce: (ctx) => ctx.oidc.client?.dpopBoundAccessTokens === true,
    },
    mTLS: {
      enabled: true,
      certificateBoundAccessTokens: true,
      tlsClientAuth: true,
      selfSignedTlsClientAuth: true,
      getCertificate: certificate,
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === 'tls_client_auth_subject_dn' && certificate(ctx).subject === expected,
    },
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => api,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => {
        if (resource !== api) throw new errors.InvalidTarget();
        return server();
      },
    },
  },
});

// A token for the subject of another token, which has to be one of ours.
const { kid, use, alg, kty, n, e } = signingKey;
const ours = jose.createLocalJWKSet({ keys: [{ kid, use, alg, kty, n, e }] });
const answer = async (ctx, token) => {
  let claims;
  try {
    claims = (await jose.jwtVerify(token ?? '', ours, { issuer })).payload;
  } catch (error) {
    throw new errors.InvalidGrant(`not a token of ours: ${error.code}`);
  }
  const { ClientCredentials, ResourceServer } = ctx.oidc.provider;
  ctx.original = claims.sub;
  const granted = new ClientCredentials({ client: ctx.oidc.client, scope: 'read' });
  granted.resourceServer = new ResourceServer(api, server());
  return {
    access_token: await granted.save(), expires_in: granted.expiration, token_type: 'Bearer', scope: 'read',
  };
};
provider.registerGrantType(exchange, async (ctx) => {
  const { subject_token: subject, subject_token_type: type } = ctx.oidc.params;
  if (type !== 'urn:ietf:params:oauth:token-type:access_token') {
    throw new errors.InvalidRequest('subject_token_type is not the one of our tokens');
  }
  ctx.body = { ...(await answer(ctx, subject)), issued_token_type: type };
}, ['subject_token', 'subject_token_type', 'audience', 'resource', 'scope']);
provider.registerGrantType(bearer, async (ctx) => {
  ctx.body = await answer(ctx, ctx.oidc.params.assertion);
}, ['assertion', 'scope', 'resource']);

provider.on('grant.success', (ctx) => console.log('token for', ctx.oidc.client.clientId));
provider.on('grant.error', (ctx, error) => console.log('refused:', error.message, error.error_detail ?? ''));
provider.on('server_error', (ctx, error) => console.log('server error:', error));

const handle = provider.callback();
tls?.on('request', handle);
createServer(handle).listen(port, '127.0.0.1', () => console.log('listening on', issuer));

// The harness holds the other end: when it is gone, so are we.
process.stdin.on('close', () => process.exit()).resume();
