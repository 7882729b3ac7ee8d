//! The tokenizers of files, as strategies and checks see them.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use jam_data::tokens::text::TextTokenizer;
use jam_fusion_passes::Pieces;
use jam_ir::TextTokens;

/// The tokenizers of files, as strategies see them; paths start in a folder.
pub(crate) struct Spelling {
    /// Where paths start.
    folder: PathBuf,
    /// What was opened: every fusion of the same parents asks for the same tokenizers.
    opened: RefCell<Vec<(TextTokens, Opened)>>,
    /// What was compared.
    compared: RefCell<Vec<Compared>>,
}

/// A tokenizer, or why there is none.
pub(crate) type Opened = Result<Rc<TextTokenizer>, String>;

/// Tokenizers, and how they differ.
type Compared = (Vec<TextTokens>, Result<(), String>);

impl Spelling {
    pub(crate) fn new(folder: PathBuf) -> Spelling {
        Spelling {
            folder,
            opened: RefCell::default(),
            compared: RefCell::default(),
        }
    }

    fn all(&self, texts: &[&TextTokens]) -> Result<Vec<Rc<TextTokenizer>>, String> {
        texts.iter().map(|text| self.open(text)).collect()
    }

    /// The tokenizer, opened once.
    pub(crate) fn open(&self, text: &TextTokens) -> Opened {
        let known = self.opened.borrow().iter().find_map(|(of, opened)| {
            let found = of == text;
            found.then(|| opened.clone())
        });
        known.unwrap_or_else(|| {
            let opened = self.read(text);
            let entry = (text.clone(), opened.clone());
            self.opened.borrow_mut().push(entry);
            opened
        })
    }

    fn read(&self, text: &TextTokens) -> Opened {
        match text {
            TextTokens::Files(path) => TextTokenizer::open(self.folder.join(path))
                .map(Rc::new)
                .map_err(|error| error.to_string()),
            TextTokens::Joint(paths) => {
                let parents: Vec<TextTokens> =
                    paths.iter().cloned().map(TextTokens::Files).collect();
                let all = self.all(&parents.iter().collect::<Vec<_>>())?;
                let all: Vec<&TextTokenizer> = all.iter().map(Rc::as_ref).collect();
                TextTokenizer::union(&all)
                    .map(Rc::new)
                    .map_err(|error| error.to_string())
            }
            TextTokens::Tokenizer(name) => Err(format!("`{name}` is trained by the program")),
            TextTokens::Ids => Err("bare ids have no spelling".to_owned()),
        }
    }
}

/// The tokens of a tokenizer in the order of ids.
fn spelled(tokenizer: &TextTokenizer) -> Vec<String> {
    let ids = 0..u32::try_from(tokenizer.size()).unwrap_or(u32::MAX);
    ids.map(|id| tokenizer.token(id).unwrap_or_default())
        .collect()
}

impl Pieces for Spelling {
    fn pieces(&self, text: &TextTokens) -> Option<Vec<String>> {
        self.open(text).ok().map(|tokenizer| spelled(&tokenizer))
    }

    fn spelled_alike(&self, texts: &[&TextTokens]) -> Result<(), String> {
        let all = self.all(texts)?;
        let all: Vec<&TextTokenizer> = all.iter().map(Rc::as_ref).collect();
        TextTokenizer::spelled_alike(&all).map_err(|error| error.message)
    }

    fn cut_alike(&self, texts: &[&TextTokens]) -> Result<(), String> {
        let texts: Vec<TextTokens> = texts.iter().map(|text| (*text).clone()).collect();
        let known = self.compared.borrow().iter().find_map(|(of, result)| {
            let found = *of == texts;
            found.then(|| result.clone())
        });
        known.unwrap_or_else(|| {
            let all = self.all(&texts.iter().collect::<Vec<_>>())?;
            let all: Vec<&TextTokenizer> = all.iter().map(Rc::as_ref).collect();
            let result = TextTokenizer::cut_alike(&all).map_err(|error| error.message);
            let entry = (texts, result.clone());
            self.compared.borrow_mut().push(entry);
            result
        })
    }

    fn union(&self, texts: &[&TextTokens]) -> Result<Vec<String>, String> {
        let all = self.all(texts)?;
        let all: Vec<&TextTokenizer> = all.iter().map(Rc::as_ref).collect();
        let joint = TextTokenizer::union(&all).map_err(|error| error.message)?;
        Ok(spelled(&joint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joint_tokenizer_is_made_of_those_that_are_open() {
        let folder = tempfile::tempdir().unwrap();
        let texts = ["a red house and a red hose", "zebras quack and quack"];
        let names = ["a.json", "b.json"];
        for (name, text) in names.iter().zip(texts) {
            let made = TextTokenizer::train([text.to_owned()].into_iter(), 260).unwrap();
            made.save(&folder.path().join(name)).unwrap();
        }
        let names = names.map(str::to_owned);
        let spelling = Spelling::new(folder.path().to_owned());
        for name in &names {
            spelling.open(&TextTokens::Files(name.clone())).unwrap();
            std::fs::remove_file(folder.path().join(name)).unwrap();
        }
        let joint = spelling.open(&TextTokens::Joint(names.to_vec())).unwrap();
        assert!(joint.size() > 256);
    }
}
