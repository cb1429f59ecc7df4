use http::HeaderValue;
use http::header::InvalidHeaderValue;
use tower_auth_core::Secret;
use zeroize::Zeroizing;

/// The value of an `Authorization` header that carries this token (RFC 6750 section 2.1).
pub(crate) fn authorization(token: &Secret) -> Result<HeaderValue, InvalidHeaderValue> {
    let text = Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text)?;
    value.set_sensitive(true);
    Ok(value)
}
