//! The official Python client of the Claude API: the judge of whether the stand-in is a Claude API.

use crate::harness::{Unavailable, ask_python};

/// Asks for this many messages with these variables and no others, and gives a word for each.
pub(crate) async fn ask(
    messages: usize,
    variables: &[(&str, &str)],
) -> Result<Vec<String>, Unavailable> {
    let messages = messages.to_string();
    let variables = [variables, &[("MESSAGES", messages.as_str())]].concat();
    ask_python("anthropic-sdk", &variables).await
}
