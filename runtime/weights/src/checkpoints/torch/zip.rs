//! The table of contents of a zip whose files are stored as they are.
//!
//! What is checked before anything is believed: the end record, its 64-bit form and the central directory
//! lie in the file and are of bounded size; every name occurs once and stays inside; no file is compressed or
//! encrypted;
//! every local header is that of its file, and no two files share a byte.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::{Error, Result};

/// The longest central directory that is read.
const MAX_DIRECTORY_BYTES: u64 = 4_000_000;
/// The most files that are believed.
const MAX_ENTRIES: u64 = 20_000;
/// The end record and the longest comment after it.
const MAX_END_BYTES: u64 = 22 + 65_535;

/// A file in an archive: where its bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// First byte, counted from the archive's first.
    pub(super) start: u64,
    /// Number of bytes.
    pub(super) size: u64,
}

/// The files of an archive by name.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) entries: BTreeMap<String, Entry>,
}

/// A file as the central directory tells of it.
struct Told {
    name: String,
    size: u64,
    header: u64,
}

impl Archive {
    /// Reads the directory of an open archive; `path` is for messages only.
    ///
    /// # Errors
    /// When the file cannot be read, or fails one of the checks that the module lists.
    pub(super) fn read(file: &mut (impl Read + Seek), path: &Path) -> Result<Archive> {
        let length = file
            .seek(SeekFrom::End(0))
            .map_err(|error| Error::io("read", path, error))?;
        let mut source = Source { file, path, length };
        let (start, told) = directory(&mut source)?;
        let mut entries = BTreeMap::new();
        let mut taken = Vec::with_capacity(told.len());
        for Told { name, size, header } in told {
            let local = source.bytes(header, 30)?;
            let fields = Fields(&local);
            if fields.u32(0) != 0x0403_4b50 || fields.u16(8) != 0 {
                return Err(source.bad(format!("`{name}` has no header of a stored file")));
            }
            let (name_bytes, extra) = (u64::from(fields.u16(26)), u64::from(fields.u16(28)));
            if source.bytes(header + 30, name_bytes)? != name.as_bytes() {
                return Err(source.bad(format!("`{name}` is called otherwise in its header")));
            }
            let first = header + 30 + name_bytes + extra;
            let end = first.checked_add(size).filter(|end| *end <= start);
            let Some(end) = end else {
                return Err(source.bad(format!("`{name}` of {size} bytes leaves the archive")));
            };
            taken.push((header, end));
            let entry = Entry { start: first, size };
            if entries.insert(name.clone(), entry).is_some() {
                return Err(source.bad(format!("`{name}` occurs twice")));
            }
        }
        taken.sort_unstable();
        if taken.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            return Err(source.bad("files of the archive share bytes".to_owned()));
        }
        Ok(Archive { entries })
    }

    /// All bytes of a file of at most `most`.
    pub(super) fn bytes(
        &self,
        file: &mut (impl Read + Seek),
        entry: &Entry,
        most: u64,
        path: &Path,
    ) -> Result<Vec<u8>> {
        if entry.size > most {
            let message = format!(
                "a file of the archive has {} bytes, more than {most}",
                entry.size
            );
            return Err(Error::new(message).with_path(path));
        }
        let length = entry.start + entry.size;
        Source { file, path, length }.bytes(entry.start, entry.size)
    }
}

/// First byte of the central directory, and what it tells.
fn directory(source: &mut Source<'_, impl Read + Seek>) -> Result<(u64, Vec<Told>)> {
    let tail = source.length.min(MAX_END_BYTES);
    let first = source.length - tail;
    let bytes = source.bytes(first, tail)?;
    // The end record is the last one whose comment reaches the end of the file.
    let end = (0..bytes.len().saturating_sub(21)).rev().find(|&at| {
        let fields = Fields(&bytes[at..]);
        fields.u32(0) == 0x0605_4b50 && at + 22 + usize::from(fields.u16(20)) == bytes.len()
    });
    let Some(at) = end else {
        return Err(source.bad("the archive has no end: it is cut short".to_owned()));
    };
    let fields = Fields(&bytes[at..]);
    let (mut count, mut size, mut start) = (
        u64::from(fields.u16(10)),
        u64::from(fields.u32(12)),
        u64::from(fields.u32(16)),
    );
    let mut last = first + at as u64;
    if count == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff {
        let locator = last.checked_sub(20);
        let locator = locator.ok_or_else(|| source.bad("the archive is cut short".to_owned()))?;
        let bytes = source.bytes(locator, 20)?;
        let fields = Fields(&bytes);
        if fields.u32(0) != 0x0706_4b50 {
            return Err(source.bad("its 64-bit end record is missing".to_owned()));
        }
        last = fields.u64(8);
        let bytes = source.bytes(last, 56)?;
        let fields = Fields(&bytes);
        if fields.u32(0) != 0x0606_4b50 {
            return Err(source.bad("its 64-bit end record is damaged".to_owned()));
        }
        (count, size, start) = (fields.u64(32), fields.u64(40), fields.u64(48));
    }
    if count > MAX_ENTRIES || size > MAX_DIRECTORY_BYTES {
        return Err(source.bad(format!(
            "its directory claims {count} files in {size} bytes; at most {MAX_ENTRIES} in \
             {MAX_DIRECTORY_BYTES} are read"
        )));
    }
    if start.checked_add(size).is_none_or(|end| end > last) {
        return Err(source.bad("its directory leaves the archive".to_owned()));
    }
    let bytes = source.bytes(start, size)?;
    let mut told = Vec::new();
    let mut rest = &bytes[..];
    for _ in 0..count {
        let (entry, after) = one(rest).map_err(|why| source.bad(why.to_owned()))?;
        told.push(entry);
        rest = after;
    }
    Ok((start, told))
}

/// The first file of a directory, and the rest of it.
fn one(bytes: &[u8]) -> std::result::Result<(Told, &[u8]), &'static str> {
    const CUT: &str = "its directory is cut short";
    let fields = Fields(bytes.get(..46).ok_or(CUT)?);
    if fields.u32(0) != 0x0201_4b50 {
        return Err("its directory is damaged");
    }
    if fields.u16(8) & 1 != 0 {
        return Err("a file of the archive is encrypted");
    }
    if fields.u16(10) != 0 {
        return Err("a file of the archive is compressed; torch stores files as they are");
    }
    let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(fields.u16(at)));
    let (mut stored, mut size, mut header) = (
        u64::from(fields.u32(20)),
        u64::from(fields.u32(24)),
        u64::from(fields.u32(42)),
    );
    let whole = bytes.get(..46 + name + extra + comment).ok_or(CUT)?;
    let name_bytes = &whole[46..46 + name];
    // The 64-bit field has those of the three that did not fit, in this order.
    let mut extra = &whole[46 + name..46 + name + extra];
    while extra.len() >= 4 {
        let fields = Fields(extra);
        let length = usize::from(fields.u16(2));
        let field = extra.get(4..4 + length).ok_or(CUT)?;
        if fields.u16(0) == 1 {
            let mut words = field.chunks_exact(8).map(|word| Fields(word).u64(0));
            for value in [&mut size, &mut stored, &mut header] {
                if *value == 0xffff_ffff {
                    *value = words.next().ok_or(CUT)?;
                }
            }
        }
        extra = &extra[4 + length..];
    }
    if stored != size {
        return Err("a stored file of the archive has two sizes");
    }
    let name = str::from_utf8(name_bytes).map_err(|_| "a name in the archive is not UTF-8")?;
    let part = |part: &str| part == ".." || part.contains(['\\', '\0']);
    if name.starts_with('/') || name.split('/').any(part) {
        return Err("a name in the archive leads outside of it");
    }
    let told = Told {
        name: name.to_owned(),
        size,
        header,
    };
    Ok((told, &bytes[whole.len()..]))
}

/// A file that is read at places inside of it.
struct Source<'a, F> {
    file: &'a mut F,
    path: &'a Path,
    length: u64,
}

impl<F: Read + Seek> Source<'_, F> {
    /// `count` bytes from `start` on; the caller bounds `count`.
    fn bytes(&mut self, start: u64, count: u64) -> Result<Vec<u8>> {
        let end = start.checked_add(count);
        if end.is_none_or(|end| end > self.length) {
            return Err(self.bad("the archive is cut short".to_owned()));
        }
        let mut bytes = vec![0; count as usize];
        self.file
            .seek(SeekFrom::Start(start))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|error| Error::io("read", self.path, error))?;
        Ok(bytes)
    }

    fn bad(&self, message: String) -> Error {
        Error::damaged(message)
            .with_path(self.path)
            .with_help("the file is damaged, or not what `torch.save` writes")
    }
}

/// Little-endian numbers at places; beyond the end they are 0.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn at<const N: usize>(&self, at: usize) -> [u8; N] {
        let bytes = self.0.get(at..at + N);
        bytes.and_then(|b| b.try_into().ok()).unwrap_or([0; N])
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.at(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.at(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.at(at))
    }
}
