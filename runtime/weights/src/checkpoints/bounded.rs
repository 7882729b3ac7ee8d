//! Files of a folder that somebody else wrote, opened and read with bounds.
//!
//! What is checked before anything is believed, and before memory is taken:
//!
//! 1. a file that another file names has one plain name: no `..`, no path, nothing absolute;
//! 2. a link leads into its folder, or into the `blobs` of a Hugging Face cache that the folder
//!    belongs to, and nowhere else;
//! 3. it is a regular file: a pipe or a device would never end;
//! 4. JSON is at most so long, so deep, and of so many values, whatever it says.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use crate::{Error, Result};

/// The deepest nesting of JSON that is read.
const MAX_DEPTH: usize = 32;

/// How much of a JSON text is read at most.
#[derive(Clone, Copy, Debug)]
pub struct JsonLimits {
    /// Bytes.
    pub bytes: u64,
    /// Commas between values: so many values, give or take the nesting.
    pub commas: usize,
}

/// Indices and lists of checksums: a model of a million experts has 200,000 tensors.
pub const TABLE: JsonLimits = JsonLimits {
    bytes: 20_000_000,
    commas: 200_000,
};

/// The path of the file `name` of `folder`.
///
/// # Errors
/// When the name leads out of the folder, by itself or as a link, or is no regular file; with
/// [`std::io::ErrorKind::NotFound`] told as "is not there".
pub fn file_of(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    if !is_plain(name) {
        let shown: String = name.chars().take(200).collect();
        return Err(Error::new(format!("`{shown}` leads outside its folder"))
            .with_path(folder)
            .with_help("a checkpoint reads the files of its own folder only"));
    }
    let kind = fs::symlink_metadata(&path).map_err(|error| Error::io("read", &path, error))?;
    if kind.is_symlink() {
        let failed = |error| Error::io("follow the link", &path, error);
        let target = fs::canonicalize(&path).map_err(failed)?;
        let folder = fs::canonicalize(folder).map_err(failed)?;
        // models--NAME/snapshots/REVISION and its folders hold links to models--NAME/blobs.
        let snapshots = folder
            .ancestors()
            .skip(1)
            .find(|above| above.ends_with("snapshots"));
        let blobs = snapshots
            .and_then(Path::parent)
            .map(|model| model.join("blobs"));
        if !target.starts_with(&folder) && blobs.is_none_or(|blobs| !target.starts_with(blobs)) {
            return Err(Error::new("the link leads out of its folder")
                .with_path(path)
                .with_help("copy the file, or name the folder where it lies"));
        }
    }
    regular(&path)?;
    Ok(path)
}

/// Whether a name is that of an entry of a folder, and no path.
pub fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let first = (parts.next(), parts.next());
    // A separator at the end is no part of its own.
    matches!(first, (Some(Component::Normal(_)), None)) && !name.contains(['/', '\\', '\0'])
}

/// Whether a folder has an entry of this name, a link that leads nowhere included.
pub fn has(folder: &Path, name: &str) -> bool {
    match fs::symlink_metadata(folder.join(name)) {
        Ok(_) => true,
        // What cannot be looked at may be there: reading it tells why.
        Err(error) => !is_absent(&error),
    }
}

/// Whether a failure to look at a path says that nothing is there: no such name, or a file where a folder above it
/// would be.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Opens a file that must be a regular one.
///
/// # Errors
/// When it is a folder, a pipe or a device, or cannot be opened.
pub fn open(path: &Path) -> Result<File> {
    regular(path)?;
    File::open(path).map_err(|error| Error::io("open", path, error))
}

fn regular(path: &Path) -> Result<()> {
    let kind = fs::metadata(path).map_err(|error| Error::io("read", path, error))?;
    match kind.is_file() {
        true => Ok(()),
        false => Err(Error::new("is not a regular file").with_path(path)),
    }
}

/// The bytes of a file that has at most `most` of them.
///
/// # Errors
/// When it has more, is no regular file, or cannot be read.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let failed = |error| Error::io("read", path, error);
    let file = open(path)?;
    let size = file.metadata().map_err(failed)?.len();
    let too_long = |size: u64| {
        let message = format!("the file has {size} bytes; at most {most} are read");
        Error::new(message).with_path(path)
    };
    if size > most {
        return Err(too_long(size));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // It may grow while it is read.
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    match bytes.len() as u64 > most {
        true => Err(too_long(bytes.len() as u64)),
        false => Ok(bytes),
    }
}

/// The text of a JSON file within limits.
///
/// # Errors
/// As [`read`], and when it has too many values or is nested too deep.
pub fn read_json(path: &Path, limits: JsonLimits) -> Result<Vec<u8>> {
    let text = read(path, limits.bytes)?;
    check_json(&text, limits).map_err(|message| Error::new(message).with_path(path))?;
    Ok(text)
}

/// Walks over JSON text without building anything.
///
/// # Errors
/// A sentence that says which limit it passes.
pub fn check_json(text: &[u8], limits: JsonLimits) -> std::result::Result<(), String> {
    let (mut depth, mut commas) = (0usize, 0usize);
    let (mut quoted, mut escaped) = (false, false);
    for byte in text {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => commas += 1,
            _ => continue,
        }
        if depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH}"));
        }
        if commas > limits.commas {
            return Err(format!("it has more than {} values", limits.commas));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_counted_outside_its_texts() {
        let limits = JsonLimits {
            bytes: 100,
            commas: 2,
        };
        let check = |text: &str| check_json(text.as_bytes(), limits);
        assert_eq!(check(r#"{"a,,,,\"[[[,,": [1, 2], "b\\": 3}"#), Ok(()));
        assert!(
            check("[1,2,3,4]")
                .unwrap_err()
                .contains("more than 2 values")
        );
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert!(
            check(&nested(MAX_DEPTH + 1))
                .unwrap_err()
                .contains("deeper")
        );
    }

    #[test]
    fn a_file_has_nothing_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stories.bin");
        fs::write(&file, "x").unwrap();
        assert!(has(folder.path(), "stories.bin"));
        assert!(!has(folder.path(), "config.json"));
        assert!(!has(&file, "config.json"));
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_in_their_folder_or_in_the_cache_it_belongs_to() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("models--a--b");
        let snapshot = model.join("snapshots/0123");
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir_all(model.join("blobs")).unwrap();
        fs::write(model.join("blobs/cafe"), "x").unwrap();
        fs::write(root.path().join("secret"), "x").unwrap();
        fs::write(snapshot.join("own"), "x").unwrap();
        for (name, target, good) in [
            ("inside", "own", true),
            ("cached", "../../blobs/cafe", true),
            ("outside", "../../../secret", false),
            ("nowhere", "gone", false),
            ("device", "/dev/zero", false),
            ("folder", ".", false),
        ] {
            symlink(target, snapshot.join(name)).unwrap();
            assert_eq!(file_of(&snapshot, name).is_ok(), good, "{name}");
            assert!(has(&snapshot, name));
        }
        let original = snapshot.join("original");
        fs::create_dir(&original).unwrap();
        symlink("../../../blobs/cafe", original.join("cached")).unwrap();
        symlink("../../../../secret", original.join("outside")).unwrap();
        assert!(file_of(&original, "cached").is_ok());
        assert!(file_of(&original, "outside").is_err());
        for name in ["..", ".", "", "a/b", "/etc/passwd", "own/", "../0123/own"] {
            let message = file_of(&snapshot, name).unwrap_err().message;
            assert!(message.contains("outside its folder"), "{name}: {message}");
        }
    }
}
