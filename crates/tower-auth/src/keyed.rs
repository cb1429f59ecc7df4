//! One credential for each key: tenant, user, audience, scope.

mod cache;
mod head;
mod id;
mod layer;
mod service;
mod tenants;
mod wiring;

use std::hash::Hash;

pub use cache::{KeyedCache, KeyedCacheBuilder};
pub use head::RequestHead;
pub use id::KeyId;
pub use layer::{KeyedAuthLayer, MissingKey};
pub use service::KeyedAuth;

/// What a [`KeyedCache`] tells credentials apart by. Implemented for every type that fits: any that can be
/// hashed, compared and cloned, and `str` and the like with their owned forms.
///
/// Two requests share a credential if their keys are equal, and only then: nothing is joined into a text
/// in between. So let the key be all that the credential depends on, with each part as a field of its own
/// (issuer, client, tenant, user, audience), and let a part whose order is of no meaning, as a set of
/// scopes, be a `BTreeSet`.
pub trait Key:
    Hash + Eq + ToOwned<Owned: Hash + Eq + Send + Sync + 'static> + Send + Sync + 'static
{
}

impl<K> Key for K
where
    K: Hash + Eq + ToOwned + Send + Sync + 'static + ?Sized,
    K::Owned: Hash + Eq + Send + Sync + 'static,
{
}
