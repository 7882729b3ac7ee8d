//! A picture that is still in its file.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use super::content::open_regular;
use crate::images::Picture;
use crate::{Error, Result};

/// The largest picture file that is read, in bytes.
pub(crate) const MAX_BYTES: u64 = 64 << 20;

/// Where a picture lies: a file, or a member of a shard. Cheap to copy; nothing is read before
/// [`PictureRef::load`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PictureRef {
    file: Arc<Path>,
    /// First byte and number of bytes; the whole file without it.
    part: Option<(u64, u64)>,
    /// Name of the member, for messages.
    member: Arc<str>,
}

impl PictureRef {
    /// A picture file.
    pub fn file(path: impl Into<Arc<Path>>) -> Self {
        Self {
            file: path.into(),
            part: None,
            member: Arc::from(""),
        }
    }

    /// A picture inside of another file.
    pub(super) fn member(file: Arc<Path>, start: u64, bytes: u64, member: &str) -> Self {
        Self {
            file,
            part: Some((start, bytes)),
            member: Arc::from(member),
        }
    }

    /// The file it lies in.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// The bytes as they lie there: PNG or JPEG.
    ///
    /// # Errors
    /// When they cannot be read or are more than 64 MB.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let failed = |error| Error::io("read", &self.file, error);
        let mut file = open_regular(&self.file)?;
        let (start, bytes) = match self.part {
            Some(part) => part,
            None => (0, file.metadata().map_err(failed)?.len()),
        };
        if bytes > MAX_BYTES {
            let message = format!(
                "{}the picture has {bytes} bytes; at most {MAX_BYTES} are read",
                self.told()
            );
            return Err(Error::new(message).with_path(self.file.as_ref()));
        }
        let mut content = vec![0; bytes as usize];
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        file.read_exact(&mut content).map_err(failed)?;
        Ok(content)
    }

    /// Reads and decodes the picture.
    ///
    /// # Errors
    /// When it cannot be read, or is no PNG or JPEG.
    pub fn load(&self) -> Result<Picture> {
        Picture::decode(&self.bytes()?).map_err(|error| {
            let message = format!("{}{}", self.told(), error.message);
            Error { message, ..error }.with_path(self.file.as_ref())
        })
    }

    /// BLAKE3 of the bytes, in hexadecimal: equal for equal pictures wherever they lie.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn content_hash(&self) -> Result<String> {
        Ok(blake3::hash(&self.bytes()?).to_hex().to_string())
    }

    /// The member's name before a message.
    fn told(&self) -> String {
        if self.member.is_empty() {
            String::new()
        } else {
            format!("`{}`: ", self.member)
        }
    }
}
