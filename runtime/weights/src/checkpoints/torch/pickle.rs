//! A pickle that is a dictionary of tensors, and nothing else.
//!
//! The machine knows the instructions that `torch.save` uses for a state dictionary, and seven names that they
//! may call: none of them runs anything here, each becomes a value of its own. Every other name is refused
//! before it is called. What the machine holds is flat and counted, so that a small file cannot
//! grow into much memory, nor into a deep nest.

use std::collections::BTreeSet;

use super::super::Dtype;

/// The most instructions that are followed.
const MAX_STEPS: usize = 2_000_000;
/// The most values that are held: of some fifty thousand tensors.
const MAX_VALUES: usize = 600_000;
/// The most tensors, and the most storages.
const MAX_TENSORS: usize = 100_000;
/// The longest name of a storage, in bytes: they are numbers.
const MAX_STORAGE_NAME: usize = 64;

/// A tensor as a pickle tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    /// Format of the elements.
    pub(super) dtype: Dtype,
    /// Name of the file with the numbers.
    pub(super) storage: String,
    /// Elements of that file.
    pub(super) storage_elements: u64,
    /// The first one that is the tensor's.
    pub(super) offset: u64,
    /// Sizes, the slowest axis first.
    pub(super) shape: Vec<u64>,
    /// Elements from one entry of an axis to the next.
    pub(super) strides: Vec<u64>,
}

/// The names that a pickle may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callable {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

/// The callable that a pickle names by module and name.
fn callable(module: &str, name: &str) -> Option<Callable> {
    let storage = |dtype| Some(Callable::Storage(dtype));
    match (module, name) {
        ("collections", "OrderedDict") => Some(Callable::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Some(Callable::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Some(Callable::RebuildParameter),
        ("torch", "FloatStorage") => storage(Dtype::F32),
        ("torch", "HalfStorage") => storage(Dtype::F16),
        ("torch", "BFloat16Storage") => storage(Dtype::BF16),
        ("torch", "DoubleStorage") => storage(Dtype::F64),
        ("torch", "LongStorage") => storage(Dtype::I64),
        ("torch", "IntStorage") => storage(Dtype::I32),
        ("torch", "ShortStorage") => storage(Dtype::I16),
        ("torch", "CharStorage") => storage(Dtype::I8),
        ("torch", "ByteStorage") => storage(Dtype::U8),
        ("torch", "BoolStorage") => storage(Dtype::Bool),
        _ => None,
    }
}

/// A value; what is not of one word lies in a list of the machine's, by its place there.
#[derive(Debug, Clone, Copy)]
enum Value {
    Mark,
    /// None, a truth value, a float: nothing that a tensor is made of.
    Plain,
    Int(i64),
    Text(usize),
    Tuple(usize),
    List,
    Dict(usize),
    Callable(Callable),
    Storage(usize),
    Tensor(usize),
}

/// Numbers in a file of the archive.
struct Storage {
    dtype: Dtype,
    name: String,
    elements: u64,
}

/// Why a pickle is refused; follows "its pickle".
type Refused = String;

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// What was memorized, by its place, and how many places that are.
    memo: Vec<Option<Value>>,
    memorized: usize,
    texts: Vec<&'a str>,
    tuples: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    storages: Vec<Storage>,
    tensors: Vec<Tensor>,
    /// Values that were ever pushed into a list of the machine's.
    held: usize,
}

/// The tensors of a state dictionary, in its order.
///
/// # Errors
/// When the pickle is cut or damaged, uses an instruction or a name that no state dictionary of tensors
/// needs, holds more than is believed, or is no dictionary of names and tensors.
pub(super) fn tensors(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, Refused> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        memo: Vec::new(),
        memorized: 0,
        texts: Vec::new(),
        tuples: Vec::new(),
        dicts: Vec::new(),
        storages: Vec::new(),
        tensors: Vec::new(),
        held: 0,
    };
    let Value::Dict(dict) = machine.run()? else {
        return Err("is no dictionary of tensors".to_owned());
    };
    let mut found: BTreeSet<&str> = BTreeSet::new();
    let mut tensors = Vec::with_capacity(machine.dicts[dict].len());
    for (key, value) in &machine.dicts[dict] {
        let Value::Text(key) = *key else {
            return Err("has a key that is no name".to_owned());
        };
        let name = machine.texts[key];
        let Value::Tensor(tensor) = *value else {
            return Err(format!("has `{}`, which is no tensor", shown(name)));
        };
        if !found.insert(name) {
            return Err(format!("has `{}` twice", shown(name)));
        }
        tensors.push((name.to_owned(), machine.tensors[tensor].clone()));
    }
    Ok(tensors)
}

impl<'a> Machine<'a> {
    /// Follows the instructions to the last; the value that they leave.
    fn run(&mut self) -> Result<Value, Refused> {
        for _ in 0..MAX_STEPS {
            let at = self.at;
            let [code] = *self.take(1)? else {
                return Err(cut());
            };
            match code {
                // Protocol, frame: nothing that changes what is read.
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'.' => return self.pop(),
                b'(' => self.push(Value::Mark)?,
                b'N' | 0x88 | 0x89 => self.push(Value::Plain)?,
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Plain)?;
                }
                b'K' => {
                    let number = self.number(1)?;
                    self.push(Value::Int(number as i64))?;
                }
                b'M' => {
                    let number = self.number(2)?;
                    self.push(Value::Int(number as i64))?;
                }
                b'J' => {
                    let number = self.number(4)? as u32;
                    self.push(Value::Int(i64::from(number as i32)))?;
                }
                0x8a => self.long()?,
                b'X' => {
                    let length = self.number(4)?;
                    self.text(length)?;
                }
                0x8c => {
                    let length = self.number(1)?;
                    self.text(length)?;
                }
                b')' => self.tuple(Vec::new())?,
                0x85..=0x87 => {
                    let count = usize::from(code - 0x84);
                    let start = self.stack.len().checked_sub(count).ok_or_else(cut)?;
                    let items = self.stack.split_off(start);
                    self.tuple(items)?;
                }
                b't' => {
                    let items = self.marked()?;
                    self.tuple(items)?;
                }
                b']' => self.push(Value::List)?,
                b'a' => {
                    self.pop()?;
                    self.expect_list()?;
                }
                b'e' => {
                    self.marked()?;
                    self.expect_list()?;
                }
                b'}' => self.dict()?,
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set(vec![key, value])?;
                }
                b'u' => {
                    let items = self.marked()?;
                    self.set(items)?;
                }
                b'q' => {
                    let place = self.number(1)?;
                    self.memorize(place)?;
                }
                b'r' => {
                    let place = self.number(4)?;
                    self.memorize(place)?;
                }
                0x94 => self.memorize(self.memorized)?,
                b'h' => {
                    let place = self.number(1)?;
                    self.recall(place)?;
                }
                b'j' => {
                    let place = self.number(4)?;
                    self.recall(place)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.name(module, name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Value::Text(module), Value::Text(name)) = (module, name) else {
                        return Err("names something by what is no text".to_owned());
                    };
                    self.name(self.texts[module], self.texts[name])?;
                }
                b'Q' => self.persistent()?,
                b'R' => self.call()?,
                b'b' => self.build()?,
                _ => {
                    return Err(format!(
                        "has the instruction 0x{code:02x} at byte {at}, which no dictionary of \
                         tensors needs"
                    ));
                }
            }
        }
        Err(format!("has more than {MAX_STEPS} instructions"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Refused> {
        let end = self.at.checked_add(count).ok_or_else(cut)?;
        let bytes = self.bytes.get(self.at..end).ok_or_else(cut)?;
        self.at = end;
        Ok(bytes)
    }

    /// A little-endian number of at most four bytes.
    fn number(&mut self, count: usize) -> Result<usize, Refused> {
        let bytes = self.take(count)?;
        Ok(bytes.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    /// A signed number of up to eight bytes.
    fn long(&mut self) -> Result<(), Refused> {
        let count = self.number(1)?;
        if count > 8 {
            return Err("has a number beyond 64 bits".to_owned());
        }
        let bytes = self.take(count)?;
        let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let mut word = [if negative { 0xff } else { 0 }; 8];
        word[..count].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(word)))
    }

    /// The bytes up to the end of the line, as text.
    fn line(&mut self) -> Result<&'a str, Refused> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().take(256).position(|b| *b == b'\n');
        let bytes = self.take(end.ok_or_else(cut)? + 1)?;
        str::from_utf8(&bytes[..bytes.len() - 1]).map_err(|_| cut())
    }

    /// Counts what is held, and refuses too much.
    fn hold(&mut self, count: usize) -> Result<(), Refused> {
        self.held += count;
        if self.held > MAX_VALUES {
            return Err(format!("holds more than {MAX_VALUES} values"));
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<(), Refused> {
        if self.stack.len() >= MAX_VALUES {
            return Err(format!("holds more than {MAX_VALUES} values"));
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, Refused> {
        self.stack.pop().ok_or_else(cut)
    }

    /// Everything above the last mark, which is taken off too.
    fn marked(&mut self) -> Result<Vec<Value>, Refused> {
        let mark = self.stack.iter().rposition(|v| matches!(v, Value::Mark));
        let mark = mark.ok_or_else(cut)?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn text(&mut self, length: usize) -> Result<(), Refused> {
        let bytes = self.take(length)?;
        let text = str::from_utf8(bytes).map_err(|_| "has a text that is not UTF-8".to_owned())?;
        self.hold(1)?;
        self.texts.push(text);
        self.push(Value::Text(self.texts.len() - 1))
    }

    fn tuple(&mut self, items: Vec<Value>) -> Result<(), Refused> {
        self.hold(items.len() + 1)?;
        self.tuples.push(items);
        self.push(Value::Tuple(self.tuples.len() - 1))
    }

    fn dict(&mut self) -> Result<(), Refused> {
        self.hold(1)?;
        self.dicts.push(Vec::new());
        self.push(Value::Dict(self.dicts.len() - 1))
    }

    /// Lists are of no use to a tensor: what is put into one is forgotten.
    fn expect_list(&self) -> Result<(), Refused> {
        match self.stack.last() {
            Some(Value::List) => Ok(()),
            _ => Err(cut()),
        }
    }

    /// Keys and values by turns, into the dictionary below them.
    fn set(&mut self, items: Vec<Value>) -> Result<(), Refused> {
        let Some(Value::Dict(dict)) = self.stack.last().copied() else {
            return Err("sets items of what is no dictionary".to_owned());
        };
        self.hold(items.len())?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(cut());
        }
        self.dicts[dict].extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    /// Places are numbered one after the other by who writes pickles.
    fn memorize(&mut self, place: usize) -> Result<(), Refused> {
        let value = *self.stack.last().ok_or_else(cut)?;
        if place >= MAX_VALUES {
            return Err(format!("memorizes more than {MAX_VALUES} values"));
        }
        if place >= self.memo.len() {
            self.memo.resize(place + 1, None);
        }
        if self.memo[place].replace(value).is_none() {
            self.memorized += 1;
            self.hold(1)?;
        }
        Ok(())
    }

    fn recall(&mut self, place: usize) -> Result<(), Refused> {
        let value = self.memo.get(place).copied().flatten();
        let value = value.ok_or_else(|| "recalls what it never memorized".to_owned())?;
        self.push(value)
    }

    fn name(&mut self, module: &str, name: &str) -> Result<(), Refused> {
        let known = callable(module, name).ok_or_else(|| {
            let (module, name) = (shown(module), shown(name));
            format!("asks for `{module}.{name}`, which is no part of a tensor and is not executed")
        })?;
        self.push(Value::Callable(known))
    }

    /// `("storage", kind, name, place, elements)`
    fn persistent(&mut self) -> Result<(), Refused> {
        let wrong = || "refers to what is no storage".to_owned();
        let Value::Tuple(id) = self.pop()? else {
            return Err(wrong());
        };
        let [
            Value::Text(word),
            Value::Callable(Callable::Storage(dtype)),
            Value::Text(name),
            Value::Text(_),
            Value::Int(elements),
        ] = self.tuples[id][..]
        else {
            return Err(wrong());
        };
        let elements = u64::try_from(elements).map_err(|_| wrong())?;
        if self.texts[word] != "storage" || self.texts[name].len() > MAX_STORAGE_NAME {
            return Err(wrong());
        }
        self.hold(1)?;
        too_many(self.storages.len())?;
        self.storages.push(Storage {
            dtype,
            name: self.texts[name].to_owned(),
            elements,
        });
        self.push(Value::Storage(self.storages.len() - 1))
    }

    /// What a call of one of the known names gives.
    fn call(&mut self) -> Result<(), Refused> {
        let (arguments, called) = (self.pop()?, self.pop()?);
        let (Value::Callable(called), Value::Tuple(arguments)) = (called, arguments) else {
            return Err("calls what is no name".to_owned());
        };
        match (called, &self.tuples[arguments][..]) {
            (Callable::OrderedDict, []) => self.dict(),
            // Storage, offset, shape, strides, whether it is trained, hooks.
            (
                Callable::RebuildTensor,
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    _,
                    ..,
                ],
            ) => {
                let offset = u64::try_from(offset);
                let (Some(shape), Some(strides), Ok(offset)) =
                    (self.sizes(shape), self.sizes(strides), offset)
                else {
                    return Err("has a tensor whose sizes are no numbers".to_owned());
                };
                self.hold(1 + shape.len() + strides.len())?;
                too_many(self.tensors.len())?;
                let storage = &self.storages[storage];
                self.tensors.push(Tensor {
                    dtype: storage.dtype,
                    storage: storage.name.clone(),
                    storage_elements: storage.elements,
                    offset,
                    shape,
                    strides,
                });
                self.push(Value::Tensor(self.tensors.len() - 1))
            }
            // The tensor, whether it is trained, hooks.
            (Callable::RebuildParameter, &[Value::Tensor(tensor), ..]) => {
                self.push(Value::Tensor(tensor))
            }
            _ => Err("calls a name with other arguments than torch does".to_owned()),
        }
    }

    fn sizes(&self, tuple: usize) -> Option<Vec<u64>> {
        let size = |value: &Value| match value {
            Value::Int(size) => u64::try_from(*size).ok(),
            _ => None,
        };
        self.tuples[tuple].iter().map(size).collect()
    }

    /// A state for an object: dictionaries have their version so, which tensors do not need.
    fn build(&mut self) -> Result<(), Refused> {
        self.pop()?;
        match self.stack.last() {
            Some(Value::Dict(_)) => Ok(()),
            _ => Err("gives a state to what is no dictionary".to_owned()),
        }
    }
}

/// Refuses one more than [`MAX_TENSORS`].
fn too_many(count: usize) -> Result<(), Refused> {
    match count < MAX_TENSORS {
        true => Ok(()),
        false => Err(format!("makes more than {MAX_TENSORS} tensors")),
    }
}

/// The beginning of a name, for messages.
fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

fn cut() -> Refused {
    "is cut or damaged".to_owned()
}
