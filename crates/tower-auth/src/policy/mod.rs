//! The refresh policy.
