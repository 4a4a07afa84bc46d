//! UUIDs in columns.

use sqlx::{
    Decode, Encode, Sqlite, Type,
    encode::IsNull,
    error::BoxDynError,
    sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef},
};
use uuid::Uuid;

/// A UUID as a column of 16 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowId(pub(super) Uuid);

impl Type<Sqlite> for RowId {
    fn type_info() -> SqliteTypeInfo {
        <[u8] as Type<Sqlite>>::type_info()
    }

    fn compatible(of: &SqliteTypeInfo) -> bool {
        <[u8] as Type<Sqlite>>::compatible(of)
    }
}

impl Encode<'_, Sqlite> for RowId {
    fn encode_by_ref(&self, into: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(self.0.as_bytes().as_slice(), into)
    }
}

impl<'r> Decode<'r, Sqlite> for RowId {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        let octets = <&[u8] as Decode<Sqlite>>::decode(value)?;
        Ok(Self(Uuid::from_slice(octets)?))
    }
}
