use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tower_auth_core::{Error, ErrorKind};
use zeroize::Zeroizing;

use super::{Identity, Pem, Roots};
use crate::ReadRules;
use crate::disk::read_now;

/// TLS 1.2 and 1.3 with the certificates in `roots`, by the one crypto library of these crates. The
/// process-wide default provider of rustls is neither read nor set.
pub(super) fn config(roots: &Roots, identity: Option<&Identity>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| invalid("TLS could not be set up".to_owned()).with_cause(cause))?
        .with_root_certificates(store(roots)?);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let (certificates, key) = read_identity(identity)?;
            config
                .with_client_auth_cert(certificates, key)
                .map_err(|cause| {
                    invalid("the client certificate and its key do not fit".to_owned())
                        .with_cause(cause)
                })?
        }
    };
    #[cfg(feature = "fips")]
    if !config.fips() {
        return Err(invalid("TLS is not in FIPS mode".to_owned()));
    }
    Ok(config)
}

/// The name that a server's certificate must have.
pub(super) fn server_name(name: &str) -> Result<ServerName<'static>, Error> {
    ServerName::try_from(name.to_owned())
        .map_err(|_| invalid("the server name is neither a host name nor an address".to_owned()))
}

fn read_identity(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let (pem, what) = read(&identity.certificates, "the client certificate")?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| invalid(format!("{what}: a certificate is not PEM")))?;
    if certificates.is_empty() {
        return Err(invalid(format!(
            "{what}: there is no certificate in PEM: look for -----BEGIN CERTIFICATE-----"
        )));
    }
    let (pem, what) = read(&identity.key, "the key of the client certificate")?;
    // The parser's error may show a part of the key.
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| invalid(format!("{what}: there is no private key in PEM")))?;
    Ok((certificates, key))
}

fn read(pem: &Pem, what: &str) -> Result<(Zeroizing<Vec<u8>>, String), Error> {
    match pem {
        Pem::Bytes(pem) => Ok((Zeroizing::new(pem.clone()), what.to_owned())),
        Pem::File(path) => {
            let pem = read_now(path, ReadRules::up_to(CA_LIMIT))
                .map_err(|error| error.about(path).with_kind(ErrorKind::InvalidConfig))?;
            Ok((Zeroizing::new(pem), format!("{what} {}", path.display())))
        }
    }
}

fn store(roots: &Roots) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for pem in &roots.extra {
        match pem {
            Pem::Bytes(pem) => add(&mut store, pem, "the added CA certificates")?,
            Pem::File(path) => {
                let pem = read_now(path, ReadRules::up_to(CA_LIMIT))
                    .map_err(|error| error.about(path).with_kind(ErrorKind::InvalidConfig))?;
                add(&mut store, &pem, &named(path))?;
            }
        }
    }
    let mut cause = None;
    if roots.system {
        let loaded = rustls_native_certs::load_native_certs();
        // Some systems list a certificate that nobody can read; the others are still good.
        store.add_parsable_certificates(loaded.certs);
        cause = loaded.errors.into_iter().next();
    }
    if !store.is_empty() {
        return Ok(store);
    }
    let error = invalid(
        "no root certificate could be loaded: install the system's CA certificates, set SSL_CERT_FILE, \
         or add a CA file"
            .to_owned(),
    );
    Err(match cause {
        Some(cause) => error.with_cause(cause),
        None => error,
    })
}

fn add(store: &mut RootCertStore, pem: &[u8], what: &str) -> Result<(), Error> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate
            .map_err(|_| invalid(format!("{what}: certificate {} is not PEM", count + 1)))?;
        store.add(certificate).map_err(|cause| {
            invalid(format!("{what}: certificate {} is not valid", count + 1)).with_cause(cause)
        })?;
        count += 1;
    }
    if count == 0 {
        return Err(invalid(format!(
            "{what}: there is no certificate in PEM: look for -----BEGIN CERTIFICATE-----"
        )));
    }
    Ok(())
}

fn named(path: &Path) -> String {
    format!("the CA file {}", path.display())
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, what)
}

const CA_LIMIT: usize = 4 * 1024 * 1024;
