//! Parquet files for tests, in the layout that pyarrow writes: every field optional, lists of three
//! levels.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// A leaf column, a value a row; the order is the schema's.
pub enum Column {
    Texts(Vec<Option<&'static str>>),
    TextLists(Vec<Vec<&'static str>>),
    Ints(Vec<i64>),
    IntLists(Vec<Vec<i32>>),
    Bools(Vec<bool>),
}

/// A file of one row group, compressed with Snappy; texts that occur often stand in a dictionary.
pub fn write(schema: &str, columns: &[Column]) -> Vec<u8> {
    write_with(schema, columns, WriterProperties::builder())
}

/// The same without a dictionary, its values in this encoding.
pub fn write_encoded(schema: &str, columns: &[Column], encoding: Encoding) -> Vec<u8> {
    write_with(
        schema,
        columns,
        WriterProperties::builder().set_dictionary_enabled(false).set_encoding(encoding),
    )
}

fn write_with(schema: &str, columns: &[Column], properties: WriterPropertiesBuilder) -> Vec<u8> {
    let mut bytes = Vec::new();
    let schema = Arc::new(parse_message_type(&format!("message rows {{ {schema} }}")).unwrap());
    let properties = properties.set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    let depths: Vec<i16> =
        writer.schema_descr().columns().iter().map(|column| column.max_def_level()).collect();
    assert_eq!(depths.len(), columns.len(), "as many columns as the schema has leaves");
    let mut group = writer.next_row_group().unwrap();
    for (column, depth) in columns.iter().zip(depths) {
        let mut leaf = group.next_column().unwrap().unwrap();
        write_column(leaf.untyped(), column, depth);
        leaf.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

fn write_column(leaf: &mut ColumnWriter<'_>, column: &Column, depth: i16) {
    match (leaf, column) {
        (ColumnWriter::ByteArrayColumnWriter(leaf), Column::Texts(rows)) => {
            let levels: Vec<i16> =
                rows.iter().map(|row| depth - i16::from(row.is_none())).collect();
            let values: Vec<ByteArray> =
                rows.iter().flatten().map(|text| byte_array(text)).collect();
            leaf.write_batch(&values, Some(&levels), None).unwrap();
        }
        (ColumnWriter::ByteArrayColumnWriter(leaf), Column::TextLists(rows)) => {
            let (defined, repeated) = levels(rows, depth);
            let values: Vec<ByteArray> =
                rows.iter().flatten().map(|text| byte_array(text)).collect();
            leaf.write_batch(&values, Some(&defined), Some(&repeated)).unwrap();
        }
        (ColumnWriter::Int32ColumnWriter(leaf), Column::IntLists(rows)) => {
            let (defined, repeated) = levels(rows, depth);
            leaf.write_batch(&rows.concat(), Some(&defined), Some(&repeated)).unwrap();
        }
        (ColumnWriter::Int64ColumnWriter(leaf), Column::Ints(rows)) => {
            leaf.write_batch(rows, Some(&vec![depth; rows.len()]), None).unwrap();
        }
        (ColumnWriter::BoolColumnWriter(leaf), Column::Bools(rows)) => {
            leaf.write_batch(rows, Some(&vec![depth; rows.len()]), None).unwrap();
        }
        _ => panic!("the schema has another type there"),
    }
}

/// The text without a copy of it.
fn byte_array(text: &'static str) -> ByteArray {
    ByteArray::from(Bytes::from_static(text.as_bytes()))
}

/// Definition and repetition levels of lists without null elements.
fn levels<T>(rows: &[Vec<T>], depth: i16) -> (Vec<i16>, Vec<i16>) {
    let of_row = |row: &Vec<T>| -> Vec<(i16, i16)> {
        if row.is_empty() {
            vec![(depth - 2, 0)]
        } else {
            (0..row.len()).map(|i| (depth, i16::from(i > 0))).collect()
        }
    };
    rows.iter().flat_map(of_row).unzip()
}
