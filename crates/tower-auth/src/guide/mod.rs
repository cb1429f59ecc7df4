//! How to use this crate, by question. The reference documentation says what each item does; these pages
//! say which one you want.
//!
//! | question | page |
//! |---|---|
//! | Which source do I need? | [`sources`] |
//! | How do I wrap the client that I have? | [`clients`] |
//! | Where in my stack does the layer go? | [`order`] |
//! | What do I retry, and how do the timeouts relate? | [`retry_and_timeout`] |
//! | How do I write a source of my own? | [`writing_a_source`] |
//! | Each tenant or user has a credential of its own | [`tenants`] |
//! | The API answers 401 | [`unauthorized`] |
//! | What does it cost per request? | [`cost`] |
//! | My process is frozen between requests | [`frozen_runtimes`] |
//! | How do I test my own code? | [`testing`] |
//!
//! There is nothing in these modules but their documentation.

#[doc = include_str!("sources.md")]
pub mod sources {}

#[doc = include_str!("clients.md")]
pub mod clients {}

#[doc = include_str!("order.md")]
pub mod order {}

#[doc = include_str!("retry_and_timeout.md")]
pub mod retry_and_timeout {}

#[doc = include_str!("writing_a_source.md")]
pub mod writing_a_source {}

#[doc = include_str!("tenants.md")]
pub mod tenants {}

#[doc = include_str!("unauthorized.md")]
pub mod unauthorized {}

#[doc = include_str!("cost.md")]
pub mod cost {}

#[doc = include_str!("frozen_runtimes.md")]
pub mod frozen_runtimes {}

#[doc = include_str!("testing.md")]
pub mod testing {}
