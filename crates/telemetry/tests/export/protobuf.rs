//! Protobuf's wire format, read without knowing what is in it.

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Varint(u64),
    Fixed64(u64),
    Bytes(Vec<u8>),
    Fixed32(u32),
}

#[derive(Debug, Clone, Default)]
pub struct Message(Vec<(u64, Value)>);

impl Message {
    #[track_caller]
    pub fn read(mut bytes: &[u8]) -> Message {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Value::Varint(varint(&mut bytes)),
                1 => Value::Fixed64(u64::from_le_bytes(take(&mut bytes, 8).try_into().expect("eight"))),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Value::Bytes(take(&mut bytes, length).to_vec())
                }
                5 => Value::Fixed32(u32::from_le_bytes(take(&mut bytes, 4).try_into().expect("four"))),
                kind => panic!("wire type {kind}"),
            };
            fields.push((key >> 3, value));
        }
        Message(fields)
    }

    pub fn all(&self, number: u64) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |(field, _)| *field == number).map(|(_, value)| value)
    }

    pub fn messages(&self, number: u64) -> Vec<Message> {
        let bytes = self.all(number).map(|value| match value {
            Value::Bytes(bytes) => Message::read(bytes),
            other => panic!("field {number} is {other:?}"),
        });
        bytes.collect()
    }

    #[track_caller]
    pub fn message(&self, number: u64) -> Message {
        self.messages(number).into_iter().next().unwrap_or_else(|| panic!("no field {number} in {self:?}"))
    }

    pub fn bytes(&self, number: u64) -> Vec<u8> {
        match self.all(number).next() {
            Some(Value::Bytes(bytes)) => bytes.clone(),
            None => Vec::new(),
            Some(other) => panic!("field {number} is {other:?}"),
        }
    }

    pub fn text(&self, number: u64) -> String {
        String::from_utf8(self.bytes(number)).expect("a text")
    }

    pub fn number(&self, number: u64) -> u64 {
        match self.all(number).next() {
            Some(Value::Varint(value) | Value::Fixed64(value)) => *value,
            Some(Value::Fixed32(value)) => (*value).into(),
            None => 0,
            Some(other) => panic!("field {number} is {other:?}"),
        }
    }

    pub fn double(&self, number: u64) -> f64 {
        f64::from_bits(self.number(number))
    }

    /// OTLP's key and value pairs in this field, as text.
    pub fn attributes(&self, number: u64) -> Vec<(String, String)> {
        let shown = |pair: Message| {
            let value = pair.message(2);
            let text = match value.0.first() {
                Some((1, Value::Bytes(text))) => String::from_utf8_lossy(text).into_owned(),
                Some((3, Value::Varint(number))) => number.to_string(),
                Some((4, Value::Fixed64(bits))) => f64::from_bits(*bits).to_string(),
                other => panic!("{other:?}"),
            };
            (pair.text(1), text)
        };
        self.messages(number).into_iter().map(shown).collect()
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a number without end");
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (head, rest) = bytes.split_at(length);
    *bytes = rest;
    head
}
