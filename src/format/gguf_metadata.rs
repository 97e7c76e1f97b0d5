//! GGUF metadata: typed, checked access to the key-value section of a file that is treated as
//! hostile.
//!
//! Values are decoded on access. An entry in memory holds the place and length of its key and a
//! type, which is less than the entry takes in the file, so no file can make the reader allocate
//! more than its own size. Structure (lengths, types, single booleans) is checked once when the
//! file is opened; text encoding and array elements are checked on access. Does not know what a key
//! means.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mmap::MappedFile;
use crate::error::{Error, Result};

/// Most metadata entries a file may have; real files have fewer than 100.
pub(super) const MAX_ENTRIES: u64 = 65_536;
/// Longest key in bytes, from the GGUF specification.
const MAX_KEY_BYTES: u64 = 65_535;
/// Most elements an array accessor decodes, which bounds what one call allocates to 64 MB; the
/// largest vocabularies have 262,144 tokens.
pub const MAX_ARRAY_LEN: usize = 1 << 22;
/// Fewest bytes of an entry: key length, one byte of key, type, one byte of value.
pub(super) const MIN_ENTRY_BYTES: u64 = 14;

/// The type of a stored value, by its number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueType {
    /// Unsigned 8-bit integer.
    U8 = 0,
    /// Signed 8-bit integer.
    I8 = 1,
    /// Unsigned 16-bit integer.
    U16 = 2,
    /// Signed 16-bit integer.
    I16 = 3,
    /// Unsigned 32-bit integer.
    U32 = 4,
    /// Signed 32-bit integer.
    I32 = 5,
    /// 32-bit float.
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// A length and UTF-8 bytes.
    String = 8,
    /// An element type, a length and the elements.
    Array = 9,
    /// Unsigned 64-bit integer.
    U64 = 10,
    /// Signed 64-bit integer.
    I64 = 11,
    /// 64-bit float.
    F64 = 12,
}

impl ValueType {
    const ALL: [(Self, &str, usize); 13] = [
        (Self::U8, "u8", 1),
        (Self::I8, "i8", 1),
        (Self::U16, "u16", 2),
        (Self::I16, "i16", 2),
        (Self::U32, "u32", 4),
        (Self::I32, "i32", 4),
        (Self::F32, "f32", 4),
        (Self::Bool, "bool", 1),
        (Self::String, "string", 0),
        (Self::Array, "array", 0),
        (Self::U64, "u64", 8),
        (Self::I64, "i64", 8),
        (Self::F64, "f64", 8),
    ];

    fn from_id(id: u32) -> Result<Self, String> {
        let row = usize::try_from(id).ok().and_then(|id| Self::ALL.get(id));
        row.map(|row| row.0).ok_or_else(|| format!("value type is {id}, the largest is 12"))
    }

    /// The type's name, such as `u32`.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// Bytes of one value; 0 for strings and arrays, which carry their length.
    fn width(self) -> usize {
        Self::ALL[self as usize].2
    }
}

/// One stored value, decoded but not yet checked against the type that the reader wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Any integer type.
    Integer(i128),
    /// Either float type, widened.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// The bytes of a string, which may be invalid UTF-8.
    String(&'a [u8]),
    /// An array.
    Array(Array<'a>),
}

/// A stored array: a view of the file, decoded element by element as it is iterated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    /// Type of every element.
    pub element: ValueType,
    /// Number of elements.
    pub len: usize,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// The elements in order, each decoded on access.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (element, mut cursor) = (self.element, Cursor { bytes: self.bytes, at: 0 });
        // Every length was checked when the file was opened, so an error means that the file has
        // changed since: stop.
        (0..self.len).map_while(move |_| cursor.value(element).ok())
    }
}

/// Reads little-endian fields in order; every length is checked against the remaining bytes before
/// it is used.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    /// Bytes not yet read.
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The next `len` bytes; `what` names them in the error.
    fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], String> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let bytes = end.and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or_else(|| {
            format!(
                "{what} needs {len} bytes at byte {}, {} are left in the file",
                self.at,
                self.left()
            )
        })?;
        self.at += bytes.len();
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.take(4, what).map(|bytes| little_endian(bytes) as u32)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.take(8, what).map(little_endian)
    }

    /// A length and that many bytes.
    fn string(&mut self, what: &str) -> Result<&'a [u8], String> {
        let len = self.u64(what)?;
        self.take(len, what)
    }

    /// A key or tensor name: UTF-8, 1 to `max` bytes; its byte range in the file.
    pub(super) fn name(&mut self, what: &str, max: u64) -> Result<Range<usize>, String> {
        let len = self.u64(what)?;
        if len == 0 || len > max {
            return Err(format!("{what} is {len} bytes long, want 1 to {max}"));
        }
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes)
            .map_err(|error| format!("{what} is not UTF-8 at byte {}", error.valid_up_to()))?;
        Ok(self.at - bytes.len()..self.at)
    }

    /// One value of type `ty`, which is neither string nor array of arrays when it comes from a
    /// walked section.
    fn value(&mut self, ty: ValueType) -> Result<Value<'a>, String> {
        match ty {
            ValueType::String => self.string("string").map(Value::String),
            ValueType::Array => self.array().map(Value::Array),
            _ => self
                .take(ty.width() as u64, ty.name())
                .and_then(|bytes| scalar(ty, little_endian(bytes))),
        }
    }

    /// An array without its elements decoded. Strings are skipped one by one, in time proportional
    /// to the file's size.
    fn array(&mut self) -> Result<Array<'a>, String> {
        let element = ValueType::from_id(self.u32("array element type")?)?;
        let len = self.u64("array length")?;
        let start = self.at;
        match element {
            ValueType::Array => return Err("array of arrays: nesting is not allowed".into()),
            ValueType::String => {
                self.check_room(len, 8, "array length")?;
                for index in 0..len {
                    self.string("string")
                        .map_err(|reason| format!("element {index} of {len}: {reason}"))?;
                }
            }
            _ => {
                let width = element.width() as u64;
                self.check_room(len, width, "array length")?;
                self.take(len * width, "array")?;
            }
        }
        let len = usize::try_from(len)
            .map_err(|_| format!("array length {len} does not fit this machine"))?;
        Ok(Array { element, len, bytes: self.bytes.get(start..self.at).unwrap_or_default() })
    }

    /// Checks that `count` items of at least `each` bytes fit in the rest of the file.
    pub(super) fn check_room(&self, count: u64, each: u64, what: &str) -> Result<(), String> {
        match count.checked_mul(each) {
            Some(bytes) if bytes <= self.left() as u64 => Ok(()),
            _ => Err(format!(
                "{what} is {count}, at {each} bytes or more each, but {} bytes are left in the \
                 file",
                self.left()
            )),
        }
    }
}

/// Up to eight bytes as a little-endian integer.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |wide, &byte| wide << 8 | u64::from(byte))
}

/// A value of fixed width from its bits.
fn scalar<'a>(ty: ValueType, bits: u64) -> Result<Value<'a>, String> {
    Ok(match ty {
        ValueType::I8 => Value::Integer((bits as i8).into()),
        ValueType::I16 => Value::Integer((bits as i16).into()),
        ValueType::I32 => Value::Integer((bits as i32).into()),
        ValueType::I64 => Value::Integer((bits as i64).into()),
        ValueType::F32 => Value::Float(f32::from_bits(bits as u32).into()),
        ValueType::F64 => Value::Float(f64::from_bits(bits)),
        ValueType::Bool if bits > 1 => return Err(format!("bool is {bits}, want 0 or 1")),
        ValueType::Bool => Value::Bool(bits == 1),
        _ => Value::Integer(bits.into()),
    })
}

/// A name that was checked when the file was opened; empty if the file has changed since.
pub(super) fn text(map: &MappedFile, range: Range<usize>) -> &str {
    map.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}

/// An offset in the header, which must lie in a file's first 4 GiB so that an offset takes four
/// bytes.
pub(super) fn header_offset(at: usize) -> Result<u32, String> {
    u32::try_from(at).map_err(|_| format!("starts at byte {at}, the limit is {}", u32::MAX))
}

/// Text from a file as it may appear in a message: quoted, control characters escaped, cut after 80
/// characters.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{:?}…", text.get(..cut).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// One entry: the place of its key, and its type. It takes 8 bytes; the smallest entry of a file
/// takes 14.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key_at: u32,
    key_len: u16,
    ty: ValueType,
}

impl Entry {
    fn key(self) -> Range<usize> {
        self.key_at as usize..self.key_at as usize + usize::from(self.key_len)
    }

    /// Where the value starts: after the key and the four bytes of its type.
    fn value_at(self) -> usize {
        self.key().end + 4
    }
}

/// The metadata of one GGUF file.
///
/// An accessor returns `None` if the key is absent, and an [`Error::InvalidFile`] that names key,
/// found value and wanted type if the value is of another type or out of range.
#[derive(Clone, Debug)]
pub struct Metadata {
    path: PathBuf,
    map: Arc<MappedFile>,
    entries: Vec<Entry>,
    /// Indices into `entries`, ordered by key.
    by_key: Vec<u32>,
}

impl Metadata {
    /// Reads `count` entries from `cursor`, which then stands after the last. `count` is at most
    /// [`MAX_ENTRIES`].
    pub(super) fn walk(
        path: &Path,
        map: &Arc<MappedFile>,
        cursor: &mut Cursor<'_>,
        count: u64,
    ) -> Result<Self, String> {
        let entries = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
        let mut metadata =
            Self { path: path.to_path_buf(), map: Arc::clone(map), entries, by_key: Vec::new() };
        for index in 0..count {
            let named = |reason| format!("metadata entry {index} of {count}: {reason}");
            let key = cursor.name("key", MAX_KEY_BYTES).map_err(named)?;
            let key_at = header_offset(key.start).map_err(named)?;
            let named =
                |reason| format!("metadata key {}: {reason}", quoted(text(map, key.clone())));
            let ty = cursor.u32("value type").and_then(ValueType::from_id).map_err(named)?;
            cursor.value(ty).map_err(named)?;
            metadata.entries.push(Entry { key_at, key_len: key.len() as u16, ty });
        }
        let mut by_key: Vec<u32> = (0..count as u32).collect();
        by_key.sort_unstable_by_key(|&index| metadata.key(index));
        if let Some(twice) =
            by_key.array_windows().find(|[a, b]| metadata.key(*a) == metadata.key(*b))
        {
            return Err(format!("metadata key {} occurs twice", quoted(metadata.key(twice[0]))));
        }
        metadata.by_key = by_key;
        Ok(metadata)
    }

    fn key(&self, index: u32) -> &str {
        self.entries.get(index as usize).map_or("", |entry| text(&self.map, entry.key()))
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All keys, in file order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| text(&self.map, entry.key()))
    }

    /// Whether `key` is present.
    pub fn contains(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    fn find(&self, key: &str) -> Option<Entry> {
        let found = self.by_key.binary_search_by_key(&key, |&index| self.key(index)).ok()?;
        self.by_key.get(found).and_then(|&index| self.entries.get(index as usize)).copied()
    }

    /// The value of `key` as stored, with its type.
    pub fn value(&self, key: &str) -> Option<(ValueType, Value<'_>)> {
        let entry = self.find(key)?;
        let value = Cursor { bytes: &self.map, at: entry.value_at() }.value(entry.ty).ok()?;
        Some((entry.ty, value))
    }

    /// An error about `key`: `reason` follows the key's name.
    pub fn error(&self, key: &str, reason: impl std::fmt::Display) -> Error {
        Error::invalid_file(&self.path, format!("metadata key {} {reason}", quoted(key)))
    }

    /// `found`, or an error that `key` is missing.
    fn require<T>(&self, key: &str, found: Option<T>) -> Result<T> {
        found.ok_or_else(|| self.error(key, "is missing"))
    }

    fn single<'a, T>(
        &'a self,
        key: &str,
        want: &str,
        convert: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some((ty, value)) = self.value(key) else { return Ok(None) };
        let mismatch = || self.error(key, format!("is {}, want {want}", describe(ty, value)));
        convert(value).map(Some).ok_or_else(mismatch)
    }

    fn many<'a, T>(
        &'a self,
        key: &str,
        want: &str,
        convert: impl Fn(Value<'a>) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some((ty, value)) = self.value(key) else { return Ok(None) };
        let Value::Array(array) = value else {
            return Err(self.error(
                key,
                format!("is {}, want an array, each element {want}", describe(ty, value)),
            ));
        };
        if array.len > MAX_ARRAY_LEN {
            return Err(self
                .error(key, format!("has {} elements, the limit is {MAX_ARRAY_LEN}", array.len)));
        }
        let mut elements = Vec::with_capacity(array.len);
        for value in array.iter() {
            let mismatch = || {
                let at = elements.len();
                self.error(
                    key,
                    format!(
                        "has at element {at} of {} {}, want {want}",
                        array.len,
                        describe(array.element, value)
                    ),
                )
            };
            elements.push(convert(value).ok_or_else(mismatch)?);
        }
        if elements.len() != array.len {
            return Err(self.error(
                key,
                format!(
                    "has an element {} that is not of type {}",
                    elements.len(),
                    array.element.name()
                ),
            ));
        }
        Ok(Some(elements))
    }
}

/// Typed access. Integers of any stored width are accepted where they are in range.
impl Metadata {
    /// An integer from 0 to 2³² - 1.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.single(key, "an integer from 0 to 4294967295", integer)
    }

    /// An integer from 0 to 2⁶⁴ - 1.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.single(key, "an integer from 0 to 18446744073709551615", integer)
    }

    /// A finite float; an `f64` is rounded.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.single(key, "a finite f32", |value| float(value).filter(|x| x.is_finite()))
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.single(key, "a bool", boolean)
    }

    /// UTF-8 text.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.single(key, "a UTF-8 string", string)
    }

    /// An array of UTF-8 texts.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.many(key, "a UTF-8 string", string)
    }

    /// An array of floats, which may be infinite but never NaN.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.many(key, "an f32 that is not NaN", |value| float(value).filter(|x| !x.is_nan()))
    }

    /// An array of integers from 0 to 2³² - 1.
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.many(key, "an integer from 0 to 4294967295", integer)
    }

    /// An array of integers from -2³¹ to 2³¹ - 1.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>> {
        self.many(key, "an integer from -2147483648 to 2147483647", integer)
    }

    /// An array of booleans.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>> {
        self.many(key, "a bool", boolean)
    }

    /// [`Self::u32`], or an error that the key is missing.
    pub fn require_u32(&self, key: &str) -> Result<u32> {
        self.u32(key).and_then(|found| self.require(key, found))
    }

    /// [`Self::f32`], or an error that the key is missing.
    pub fn require_f32(&self, key: &str) -> Result<f32> {
        self.f32(key).and_then(|found| self.require(key, found))
    }

    /// [`Self::str`], or an error that the key is missing.
    pub fn require_str(&self, key: &str) -> Result<&str> {
        self.str(key).and_then(|found| self.require(key, found))
    }

    /// [`Self::strings`], or an error that the key is missing.
    pub fn require_strings(&self, key: &str) -> Result<Vec<&str>> {
        self.strings(key).and_then(|found| self.require(key, found))
    }

    /// The value of `key` in one readable line: text quoted with control characters escaped and cut
    /// after 80 characters, for an array the element type, the length and the first three elements.
    pub fn display(&self, key: &str) -> Option<String> {
        let (_, value) = self.value(key)?;
        let Value::Array(array) = value else { return Some(show(value)) };
        let mut first: Vec<String> = array.iter().take(3).map(show).collect();
        if array.len > first.len() {
            first.push("…".into());
        }
        Some(format!("{} × {} [{}]", array.len, array.element.name(), first.join(", ")))
    }
}

fn integer<T: TryFrom<i128>>(value: Value<'_>) -> Option<T> {
    let Value::Integer(integer) = value else { return None };
    T::try_from(integer).ok()
}

fn float(value: Value<'_>) -> Option<f32> {
    let Value::Float(float) = value else { return None };
    Some(float as f32)
}

fn boolean(value: Value<'_>) -> Option<bool> {
    let Value::Bool(boolean) = value else { return None };
    Some(boolean)
}

fn string(value: Value<'_>) -> Option<&str> {
    let Value::String(bytes) = value else { return None };
    std::str::from_utf8(bytes).ok()
}

/// A value for a listing.
fn show(value: Value<'_>) -> String {
    match value {
        Value::Integer(integer) => integer.to_string(),
        Value::Float(float) => (float as f32).to_string(),
        Value::Bool(boolean) => boolean.to_string(),
        Value::String(bytes) => quoted(&String::from_utf8_lossy(bytes.get(..400).unwrap_or(bytes))),
        Value::Array(array) => format!("{} × {}", array.len, array.element.name()),
    }
}

/// A value in an error message.
fn describe(ty: ValueType, value: Value<'_>) -> String {
    match value {
        Value::Array(array) => format!("an array of {} {}", array.len, array.element.name()),
        Value::String(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => format!("the string {}", quoted(text)),
            Err(error) => format!("a string that is not UTF-8 at its byte {}", error.valid_up_to()),
        },
        _ => format!("{} ({})", show(value), ty.name()),
    }
}
