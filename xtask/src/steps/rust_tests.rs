//! Finds test functions by reading tokens, so that comments, strings and macros do not mislead.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A function marked as a test.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) name: String,
    /// Marked so that it is not run.
    pub(crate) ignored: bool,
}

/// The tests in a Rust source text.
pub(crate) fn tests_in(source: &str) -> Result<Vec<Test>, String> {
    let mut tests = Vec::new();
    collect(tokens(source)?, &mut tests);
    Ok(tests)
}

/// The macros of these names that a Rust source text calls.
pub(crate) fn calls_of(names: &[&str], source: &str) -> Result<Vec<String>, String> {
    let mut calls = Vec::new();
    collect_calls(tokens(source)?, names, &mut calls);
    Ok(calls)
}

/// All `.rs` files under a folder, in order; none where there is no such folder.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return files;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn tokens(source: &str) -> Result<TokenStream, String> {
    TokenStream::from_str(source).map_err(|error| error.to_string())
}

fn collect(tokens: TokenStream, tests: &mut Vec<Test>) {
    let mut attributes: Vec<TokenStream> = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                if let Some(TokenTree::Group(group)) = tokens.peek() {
                    if group.delimiter() == Delimiter::Bracket {
                        attributes.push(group.stream());
                        tokens.next();
                    }
                }
            }
            TokenTree::Ident(ident) if ident == "fn" => {
                let is_test = attributes.iter().any(is_test);
                if let (true, Some(TokenTree::Ident(name))) = (is_test, tokens.peek()) {
                    tests.push(Test {
                        name: name.to_string(),
                        ignored: attributes.iter().any(is_ignore),
                    });
                }
                attributes.clear();
            }
            // What may stand between the attributes of a function and its `fn`.
            TokenTree::Ident(ident)
                if ["pub", "async", "const", "unsafe", "extern"]
                    .iter()
                    .any(|keyword| ident == keyword) => {}
            TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => {
                collect(group.stream(), tests);
            }
            TokenTree::Group(group) => {
                attributes.clear();
                collect(group.stream(), tests);
            }
            _ => attributes.clear(),
        }
    }
}

/// `test`, `tokio::test(…)` and the like: a path that ends in `test`.
fn is_test(attribute: &TokenStream) -> bool {
    let path = attribute.clone().into_iter().take_while(|token| {
        matches!(token, TokenTree::Ident(_))
            || matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':')
    });
    matches!(path.last(), Some(TokenTree::Ident(ident)) if ident == "test")
}

/// `ignore`, also behind `cfg_attr`.
fn is_ignore(attribute: &TokenStream) -> bool {
    let mut tokens = attribute.clone().into_iter();
    match tokens.next() {
        Some(TokenTree::Ident(ident)) if ident == "ignore" => true,
        Some(TokenTree::Ident(ident)) if ident == "cfg_attr" => match tokens.next() {
            Some(TokenTree::Group(group)) => group
                .stream()
                .into_iter()
                .any(|token| matches!(token, TokenTree::Ident(ident) if ident == "ignore")),
            _ => false,
        },
        _ => false,
    }
}

fn collect_calls(tokens: TokenStream, names: &[&str], calls: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) if names.iter().any(|name| ident == name) => {
                if matches!(tokens.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == '!')
                {
                    calls.push(ident.to_string());
                }
            }
            TokenTree::Group(group) => collect_calls(group.stream(), names, calls),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<String> {
        let tests = tests_in(source).unwrap();
        tests.into_iter().map(|test| test.name).collect()
    }

    #[test]
    fn tests_are_found_in_modules_and_macros() {
        let source = r"
            #[cfg(test)] mod tests {
                /// A fact.
                #[test] fn plain() {}
                #[tokio::test(start_paused = true)] pub(crate) async fn with_a_runtime() {}
                proptest! { #[test] fn in_a_macro(x in 0..9u8) { } }
            }
        ";
        assert_eq!(names(source), ["plain", "with_a_runtime", "in_a_macro"]);
    }

    #[test]
    fn what_only_looks_like_a_test_is_not_found() {
        let source = r##"
            // #[test] fn commented_out() {}
            const TEXT: &str = r#"#[test] fn quoted() {}"#;
            #[cfg(test)] fn helper() {}
            #[test] const X: u8 = 0; fn after_another_item() {}
        "##;
        assert_eq!(names(source), [""; 0]);
    }

    #[test]
    fn an_ignored_test_is_marked() {
        let source = r#"
            #[test] #[ignore = "slow"] fn a() {}
            #[cfg_attr(miri, ignore)] #[test] fn b() {}
            #[test] fn c() {}
        "#;
        let ignored: Vec<_> = tests_in(source)
            .unwrap()
            .into_iter()
            .map(|test| test.ignored)
            .collect();
        assert_eq!(ignored, [true, true, false]);
    }

    #[test]
    fn a_macro_call_is_told_from_a_word() {
        let source = r#"fn todo() { todo!("x") } // todo!()"#;
        assert_eq!(calls_of(&["todo"], source).unwrap(), ["todo"]);
    }
}
