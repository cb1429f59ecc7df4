//! Suites against real servers: programs that others wrote, pinned, installed under `target/real` and
//! started on the loopback interface. A server that cannot be installed or started here is reported as
//! skipped; with `REQUIRE_REAL=1` in the environment that is a failure.

mod anthropic_sdk;
mod api;
mod claude;
mod client_credentials;
mod glewlwyd;
mod harness;
mod hvac;
mod kubernetes;
mod oidc_provider;
mod openbao;
mod proofs;
#[cfg(unix)]
mod spiffe;
#[cfg(unix)]
mod spiffe_agent;
mod vault;
mod vault_certificate;
mod vault_claude;
mod vault_sealed;
