//! The text form of a model: parsed, verified, printed.
//!
//! What must hold of any text: it is answered, with a place where it is refused; the verifier answers what
//! parses; and what parses prints and parses back to the same model.

use jam_ir::text::{parse, print};
use jam_ir::verify;
use jam_ir_testing::generate;

use super::seeds::tidy;

/// Parses, verifies, prints and parses again; what is not UTF-8 is no text.
pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let model = match parse(text) {
        Ok(model) => model,
        Err(error) => {
            assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
            return;
        }
    };
    let _ = verify(&model);
    let printed = print(&model);
    match parse(&printed) {
        Ok(back) => assert_eq!(back, model, "{printed}"),
        Err(error) => panic!("what was printed does not parse: {error}\n{printed}"),
    }
}

/// The smallest of many random models that the verifier accepts, and pieces of them.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = (0..2000).map(|seed| print(&generate::seeded(seed).model).into_bytes());
    let mut texts: Vec<Vec<u8>> = texts.collect();
    texts.sort_by_key(Vec::len);
    texts.truncate(100);
    tidy(texts)
}
