//! A login by TLS client certificate, at an OpenBao that listens with TLS.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process;

use http::Request;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use serde_json::json;
use tower_auth::{BoxError, ErrorKind, Fetch, Reason, TokenSource};
use tower_auth_io::{Client, World};
use tower_auth_vault::{Login, Server, Session};

use crate::harness::or_skip;
use crate::openbao::OpenBao;

#[tokio::test]
async fn a_client_certificate_logs_in_over_tls() -> Result<(), BoxError> {
    let pki = Pki::new()?;
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let folder = Folder::new("certificate")?;
    let configuration = folder.configuration(&pki, port, "")?;
    let Some(bao) = or_skip(OpenBao::start_with(Some(&configuration)).await) else {
        return Ok(());
    };
    bao.write("sys/auth/cert", json!({ "type": "cert" }))
        .await?;
    let role = json!({
        "certificate": pki.ca.pem(),
        "allowed_common_names": ["reports"],
        "token_ttl": "60s",
    });
    bao.write("auth/cert/certs/reports", role).await?;

    let address = format!("https://127.0.0.1:{port}");
    let session = |name: &str, login: Login| -> Result<Session, BoxError> {
        let (certificate, key) = pki.sign(name, ExtendedKeyUsagePurpose::ClientAuth)?;
        let transport = Client::new()
            .without_proxy()
            .without_system_roots()
            .with_ca_pem(pki.ca.pem())
            .with_certificate_pem(certificate, key)
            .transport()?;
        let world = World::new(transport);
        Ok(Session::new(Server::new(&address, &world)?, login))
    };

    let known = session("reports", Login::certificate_as("reports")?)?;
    for reason in [Reason::First, Reason::Scheduled, Reason::Rejected] {
        known.fetch(&Fetch::new(reason)).await?;
    }
    let stranger = session("stranger", Login::certificate())?;
    let error = stranger
        .fetch(&Fetch::new(Reason::First))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");

    // Without the authority nothing is sent at all.
    let world = World::new(Client::new().without_proxy().transport()?);
    let request = Request::get(format!("{address}/v1/sys/health")).body(bytes::Bytes::new())?;
    let error = world.transport().send(request).await.unwrap_err();
    assert!(error.to_string().contains("TLS handshake"), "{error}");
    Ok(())
}

/// An authority and what it signs.
pub(crate) struct Pki {
    pub(crate) ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Result<Self, BoxError> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { ca })
    }

    /// A certificate and its key, in PEM.
    fn sign(
        &self,
        name: &str,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<(String, String), BoxError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.extended_key_usages = vec![purpose];
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.ca)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// A folder that is gone when its test is done.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Result<Self, BoxError> {
        let name = format!("openbao-tls-{}-{name}", process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// A listener with TLS, and these settings.
    pub(crate) fn configuration(
        &self,
        pki: &Pki,
        port: u16,
        settings: &str,
    ) -> Result<PathBuf, BoxError> {
        let (certificate, key) = pki.sign("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth)?;
        let file = |name: &str| self.0.join(name);
        fs::write(file("server.pem"), certificate)?;
        fs::write(file("server.key"), key)?;
        fs::write(file("ca.pem"), pki.ca.pem())?;
        let folder = self.0.display();
        let configuration = format!(
            r#"
{settings}
listener "tcp" {{
  address            = "127.0.0.1:{port}"
  cluster_address    = "127.0.0.1:0"
  tls_cert_file      = "{folder}/server.pem"
  tls_key_file       = "{folder}/server.key"
  tls_client_ca_file = "{folder}/ca.pem"
}}
"#
        );
        fs::write(file("tls.hcl"), configuration)?;
        Ok(file("tls.hcl"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is under the target folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}
