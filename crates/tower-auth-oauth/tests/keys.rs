//! Private keys in the forms that programs write them in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use tower_auth_core::ErrorKind;
use tower_auth_oauth::{Algorithm, Certificates, SigningKey};

const RSA: &str = include_str!("keys/rsa.pem");
const P256: &str = include_str!("keys/p256.pem");
const CERTIFICATE: &str = include_str!("keys/rsa-cert.pem");

#[test]
fn every_form_of_pem_gives_the_same_key() {
    for (one, other) in [
        (RSA, include_str!("keys/rsa-pkcs1.pem")),
        (P256, include_str!("keys/p256-sec1.pem")),
    ] {
        let one = SigningKey::from_pem(one).unwrap();
        let other = SigningKey::from_pem(other).unwrap();
        assert_eq!(one.thumbprint(), other.thumbprint());
        assert_eq!(one.algorithm(), other.algorithm());
    }
}

#[test]
fn the_algorithm_follows_from_the_key() {
    for (pem, algorithm) in [
        (RSA, Algorithm::Rs256),
        (P256, Algorithm::Es256),
        (include_str!("keys/p384.pem"), Algorithm::Es384),
        (include_str!("keys/p521.pem"), Algorithm::Es512),
        (include_str!("keys/ed25519.pem"), Algorithm::EdDsa),
    ] {
        let key = SigningKey::from_pem(pem).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        let wrong = match algorithm {
            Algorithm::Rs256 => Algorithm::Es256,
            _ => Algorithm::Rs256,
        };
        let error = key.with_algorithm(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains(wrong.as_str()), "{error}");
    }
}

#[test]
fn a_key_is_found_beside_its_certificate() {
    let both = format!("{CERTIFICATE}\nsome text\n{RSA}");
    let key = SigningKey::from_pem(&both).unwrap();
    assert_eq!(
        key.thumbprint(),
        SigningKey::from_pem(RSA).unwrap().thumbprint()
    );
    assert_eq!(
        Certificates::from_pem(&both).unwrap().thumbprint(),
        Certificates::from_pem(CERTIFICATE).unwrap().thumbprint(),
    );
}

#[test]
fn what_cannot_be_used_says_why() {
    for (pem, why) in [
        (String::new(), "no private key"),
        ("not PEM".to_owned(), "no private key"),
        (CERTIFICATE.to_owned(), "no private key"),
        (format!("{RSA}{P256}"), "more than one"),
        (
            include_str!("keys/rsa-encrypted.pem").to_owned(),
            "encrypted",
        ),
        (include_str!("keys/rsa-1024.pem").to_owned(), "2048"),
        (include_str!("keys/k256.pem").to_owned(), "P-256"),
        (RSA.replace('M', "N"), "damaged"),
    ] {
        let error = SigningKey::from_pem(&pem).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{why}");
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
    for pem in ["", RSA, "-----BEGIN CERTIFICATE-----\n!\n"] {
        let error = Certificates::from_pem(pem).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
}

#[test]
fn der_is_never_a_panic() {
    for length in 0..64 {
        SigningKey::from_der(vec![0x30; length]).unwrap_err();
    }
}

/// The key of RFC 8037 appendix A and the thumbprint that it gives there.
#[test]
fn an_ed25519_jwk_has_the_thumbprint_of_the_rfc() {
    let jwk = json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "k1",
        "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    });
    let key = SigningKey::from_jwk(jwk.to_string()).unwrap();
    assert_eq!(
        key.thumbprint(),
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
    assert_eq!(key.key_id(), Some("k1"));
    assert!(!key.public_jwk().contains("nWGxne"));
}

/// The key of RFC 7517 appendix A.2.
#[test]
fn a_p256_jwk_is_read_with_its_algorithm() {
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "alg": "ES256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        "d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE",
    });
    let key = SigningKey::from_jwk(jwk.to_string()).unwrap();
    assert_eq!(key.algorithm(), Algorithm::Es256);
    let public: Value = serde_json::from_str(&key.public_jwk()).unwrap();
    assert_eq!(public["x"], jwk["x"]);
    assert_eq!(public["y"], jwk["y"]);
    assert_eq!(public.as_object().unwrap().len(), 4);
}

#[test]
fn an_rsa_jwk_is_read_and_a_half_one_is_not() {
    let jwk = rsa_jwk();
    let key = SigningKey::from_jwk(jwk.to_string()).unwrap();
    let public: Value = serde_json::from_str(&key.public_jwk()).unwrap();
    assert_eq!((&public["n"], &public["e"]), (&jwk["n"], &jwk["e"]));
    for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        let mut half = jwk.clone();
        half.as_object_mut().unwrap().remove(name);
        let error = SigningKey::from_jwk(half.to_string()).unwrap_err();
        assert!(
            error.to_string().contains(&format!("no {name};")),
            "{error}"
        );
        let mut damaged = jwk.clone();
        *damaged.get_mut(name).unwrap() = json!("AAAA");
        SigningKey::from_jwk(damaged.to_string()).unwrap_err();
    }
}

/// The numbers of the PKCS #1 file, in the order in which it has them (RFC 8017 appendix A.1.2).
fn rsa_jwk() -> Value {
    let pem = include_str!("keys/rsa-pkcs1.pem");
    let der: String = pem.lines().filter(|line| !line.contains('-')).collect();
    let der = base64::prelude::BASE64_STANDARD.decode(der).unwrap();
    let mut rest = der.get(4..).unwrap();
    let mut numbers = Vec::new();
    while let [2, length, tail @ ..] = rest {
        let (length, tail) = match length {
            0x81 => (usize::from(*tail.first().unwrap()), tail.get(1..).unwrap()),
            0x82 => {
                let (high, tail) = tail.split_at(2);
                let length = high
                    .iter()
                    .fold(0, |all, &byte| all << 8 | usize::from(byte));
                (length, tail)
            }
            short => (usize::from(*short), tail),
        };
        let (number, tail) = tail.split_at(length);
        let zeros = number.iter().take_while(|&&byte| byte == 0).count();
        numbers.push(BASE64.encode(number.get(zeros..).unwrap()));
        rest = tail;
    }
    let names = ["version", "n", "e", "d", "p", "q", "dp", "dq", "qi"];
    assert_eq!(numbers.len(), names.len());
    let mut jwk: Value = names.into_iter().zip(numbers).collect();
    let members = jwk.as_object_mut().unwrap();
    members.remove("version");
    members.insert("kty".to_owned(), json!("RSA"));
    jwk
}

#[test]
fn a_jwk_that_cannot_be_used_says_why_and_shows_nothing() {
    for (jwk, why) in [
        ("canary", "JSON"),
        (r#"{"d":"canary"}"#, "kty"),
        (r#"{"kty":"oct","k":"canary"}"#, "kty"),
        (r#"{"kty":"EC","crv":"secp256k1","d":"canary"}"#, "crv"),
        (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#, "no d"),
        (
            r#"{"kty":"EC","crv":"P-256","d":"canary!","x":"AA","y":"AA"}"#,
            "base64url",
        ),
        (
            r#"{"kty":"OKP","crv":"Ed25519","d":"canary00","x":"AA"}"#,
            "numbers",
        ),
    ] {
        let error = SigningKey::from_jwk(jwk).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{jwk}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(why) && !shown.contains("canary"), "{shown}");
    }
}

#[test]
fn debug_shows_no_key() {
    let key = SigningKey::from_pem(P256).unwrap().with_key_id("k1");
    assert_eq!(
        format!("{key:?}"),
        r#"SigningKey { algorithm: Es256, key_id: Some("k1"), .. }"#
    );
}

#[cfg(feature = "pkcs12")]
#[test]
fn a_pkcs12_file_gives_its_key_and_certificate() {
    let file = include_bytes!("keys/p256.p12");
    let (key, certificates) = SigningKey::from_pkcs12(file, "changeit").unwrap();
    assert_eq!(
        key.thumbprint(),
        SigningKey::from_pem(P256).unwrap().thumbprint()
    );
    let pem = include_str!("keys/p256-cert.pem");
    assert_eq!(
        certificates.thumbprint(),
        Certificates::from_pem(pem).unwrap().thumbprint()
    );
    for (file, password) in [(&file[..], "canary"), (&b"no file"[..], "changeit")] {
        let error = SigningKey::from_pkcs12(file, password).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
