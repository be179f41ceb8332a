//! Thrift's binary protocol, read without knowing what is in it.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Bool(bool),
    Double(f64),
    I16(i16),
    I32(i32),
    I64(i64),
    Bytes(Vec<u8>),
    Struct(BTreeMap<i16, Value>),
    List(Vec<Value>),
}

pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_at(N);
        self.0 = rest;
        head.try_into().expect("as long")
    }

    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        let length = self.i32() as usize;
        let (head, rest) = self.0.split_at(length);
        self.0 = rest;
        head.to_vec()
    }

    pub fn fields(&mut self) -> BTreeMap<i16, Value> {
        let mut fields = BTreeMap::new();
        loop {
            let [kind] = self.take();
            if kind == 0 {
                return fields;
            }
            let id = i16::from_be_bytes(self.take());
            let value = self.value(kind);
            assert!(fields.insert(id, value).is_none(), "field {id} twice");
        }
    }

    fn value(&mut self, kind: u8) -> Value {
        match kind {
            2 => Value::Bool(self.take::<1>() == [1]),
            4 => Value::Double(f64::from_be_bytes(self.take())),
            6 => Value::I16(i16::from_be_bytes(self.take())),
            8 => Value::I32(self.i32()),
            10 => Value::I64(i64::from_be_bytes(self.take())),
            11 => Value::Bytes(self.bytes()),
            12 => Value::Struct(self.fields()),
            15 => {
                let [kind] = self.take();
                let length = self.i32();
                Value::List((0..length).map(|_| self.value(kind)).collect())
            }
            kind => panic!("type {kind}"),
        }
    }
}

impl Value {
    #[track_caller]
    pub fn list(&self) -> &[Value] {
        match self {
            Value::List(values) => values,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn field(&self, id: i16) -> &Value {
        match self {
            Value::Struct(fields) => &fields[&id],
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?}"),
        }
    }
}
