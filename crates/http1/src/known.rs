//! Header names that mean something to a proxy, as one byte, and sets of them as one word.

macro_rules! known {
    ($($variant:ident $name:literal)*) => {
        /// A header name that the codec or the proxy acts on.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Known {
            /// Any other name.
            #[default]
            Other,
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Known {
            /// The name in lower case; for the open families the prefix; empty for [`Known::Other`].
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    Known::Other => "",
                    $(Known::$variant => $name,)*
                }
            }

            /// All names but [`Known::Other`].
            pub const ALL: &'static [Known] = &[$(Known::$variant,)*];
        }
    };
}

known! {
    Host "host"
    Connection "connection"
    ContentLength "content-length"
    TransferEncoding "transfer-encoding"
    Te "te"
    Trailer "trailer"
    Upgrade "upgrade"
    KeepAlive "keep-alive"
    ProxyAuthenticate "proxy-authenticate"
    ProxyAuthorization "proxy-authorization"
    ProxyConnection "proxy-connection"
    Http2Settings "http2-settings"
    Via "via"
    Expect "expect"
    MaxForwards "max-forwards"
    Forwarded "forwarded"
    XForwardedClientCert "x-forwarded-client-cert"
    Date "date"
    ContentType "content-type"
    ContentEncoding "content-encoding"
    AcceptEncoding "accept-encoding"
    RetryAfter "retry-after"
    Location "location"
    Refresh "refresh"
    DtabLocal "dtab-local"
    FinagleNack "finagle-http-nack"
    FinagleNonretryableNack "finagle-http-nonretryable-nack"
    FinagleRetryableRequest "finagle-http-retryable-request"
    B3 "b3"
    B3TraceId "x-b3-traceid"
    B3SpanId "x-b3-spanid"
    B3ParentSpanId "x-b3-parentspanid"
    B3Sampled "x-b3-sampled"
    B3Flags "x-b3-flags"
    TraceParent "traceparent"
    TraceState "tracestate"
    L5dDtab "l5d-dtab"
    L5dSample "l5d-sample"
    L5dReqid "l5d-reqid"
    L5dErr "l5d-err"
    L5dSuccessClass "l5d-success-class"
    L5dRetryable "l5d-retryable"
    L5dAddContext "l5d-add-context"
    L5dCtxDtab "l5d-ctx-dtab"
    L5dCtxTrace "l5d-ctx-trace"
    L5dCtxDeadline "l5d-ctx-deadline"
    L5dCtxOther "l5d-ctx-"
    L5dDstService "l5d-dst-service"
    L5dDstClient "l5d-dst-client"
    L5dDstResidual "l5d-dst-residual"
    L5dDstOther "l5d-dst-"
    L5dOther "l5d-"
}

impl Known {
    /// Finds the tag of a field name: length and first byte pick the one or two candidates.
    #[inline]
    #[must_use]
    pub fn of(name: &[u8]) -> Known {
        use Known::*;
        let Some(first) = name.first() else {
            return Other;
        };
        let candidates: &[Known] = match (first | 0x20, name.len()) {
            (b'a', 15) => &[AcceptEncoding],
            (b'b', 2) => &[B3],
            (b'c', 10) => &[Connection],
            (b'c', 12) => &[ContentType],
            (b'c', 14) => &[ContentLength],
            (b'c', 16) => &[ContentEncoding],
            (b'd', 4) => &[Date],
            (b'd', 10) => &[DtabLocal],
            (b'e', 6) => &[Expect],
            (b'f', 9) => &[Forwarded],
            (b'f', 17) => &[FinagleNack],
            (b'f', 30) => &[FinagleNonretryableNack, FinagleRetryableRequest],
            (b'h', 4) => &[Host],
            (b'h', 14) => &[Http2Settings],
            (b'k', 10) => &[KeepAlive],
            (b'l', 4..) => return linkerd(name),
            (b'm', 12) => &[MaxForwards],
            (b'p', 16) => &[ProxyConnection],
            (b'p', 18) => &[ProxyAuthenticate],
            (b'p', 19) => &[ProxyAuthorization],
            (b'r', 7) => &[Refresh],
            (b'r', 11) => &[RetryAfter],
            (b't', 2) => &[Te],
            (b't', 7) => &[Trailer],
            (b't', 10) => &[TraceState],
            (b't', 11) => &[TraceParent],
            (b't', 17) => &[TransferEncoding],
            (b'u', 7) => &[Upgrade],
            (b'v', 3) => &[Via],
            (b'x', 10) => &[B3Flags],
            (b'x', 11) => &[B3SpanId],
            (b'x', 12) => &[B3TraceId, B3Sampled],
            (b'x', 17) => &[B3ParentSpanId],
            (b'x', 23) => &[XForwardedClientCert],
            _ => return Other,
        };
        let hit = candidates.iter().find(|known| is_named(name, known.name().as_bytes()));
        hit.copied().unwrap_or(Other)
    }
}

/// Compares a token with a name in lower case, eight bytes at a time (the last eight may overlap). Setting
/// bit 5 turns capitals into small letters, and the only other bytes that it turns into letters, digits or
/// `-` are control characters, which no token has.
#[inline]
fn is_named(token: &[u8], name: &[u8]) -> bool {
    const SMALL: u64 = 0x2020_2020_2020_2020;
    let word = |bytes: &[u8], from: usize| -> u64 {
        bytes[from..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    if token.len() != name.len() {
        return false;
    }
    let Some(last) = name.len().checked_sub(8) else {
        return token.iter().zip(name).all(|(byte, wanted)| byte | 0x20 == *wanted);
    };
    let differ = |from: usize| (word(token, from) | SMALL) ^ word(name, from);
    let mut from = 0;
    while from < last {
        if differ(from) != 0 {
            return false;
        }
        from += 8;
    }
    differ(last) == 0
}

/// Names that start with `l`: Linkerd's own and Location.
fn linkerd(name: &[u8]) -> Known {
    use Known::*;
    let starts =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()));
    let among = |candidates: &[Known]| {
        candidates.iter().copied().find(|known| name.eq_ignore_ascii_case(known.name().as_bytes()))
    };
    if !starts("l5d-") {
        return among(&[Location]).unwrap_or(Other);
    }
    if starts("l5d-ctx-") {
        return among(&[L5dCtxDtab, L5dCtxTrace, L5dCtxDeadline]).unwrap_or(L5dCtxOther);
    }
    if starts("l5d-dst-") {
        return among(&[L5dDstService, L5dDstClient, L5dDstResidual]).unwrap_or(L5dDstOther);
    }
    let rest = [L5dDtab, L5dSample, L5dReqid, L5dErr, L5dSuccessClass, L5dRetryable, L5dAddContext];
    among(&rest).unwrap_or(L5dOther)
}

/// A set of [`Known`] names: what a head has, or what is left out when it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownSet(u64);

impl KnownSet {
    /// No name.
    pub const NONE: KnownSet = KnownSet(0);
    /// What Linkerd 1 strips on both ways (`router.md` calls it scrubbing), plus HTTP2-Settings,
    /// which belongs to an Upgrade that is never passed on. Keep-Alive and Proxy-Connection stay
    /// unless the Connection field nominates them.
    pub const HOP_BY_HOP: KnownSet = KnownSet::of(&[
        Known::Connection,
        Known::Te,
        Known::Trailer,
        Known::Upgrade,
        Known::ProxyAuthenticate,
        Known::ProxyAuthorization,
        Known::Http2Settings,
    ]);

    /// A set of the given names; [`Known::Other`] cannot be a member.
    #[must_use]
    pub const fn of(names: &[Known]) -> KnownSet {
        let (mut bits, mut i) = (0, 0);
        while i < names.len() {
            bits |= 1 << names[i] as u8;
            i += 1;
        }
        KnownSet(bits & !1)
    }

    /// Whether `name` is a member.
    #[inline]
    #[must_use]
    pub const fn has(self, name: Known) -> bool {
        self.0 & (1 << name as u8) != 0
    }

    /// Whether the two sets share a member.
    #[inline]
    #[must_use]
    pub const fn any(self, other: KnownSet) -> bool {
        self.0 & other.0 != 0
    }

    /// The union.
    #[inline]
    #[must_use]
    pub const fn with(self, other: KnownSet) -> KnownSet {
        KnownSet(self.0 | other.0)
    }

    /// Members of `self` that are not in `other`.
    #[inline]
    #[must_use]
    pub const fn without(self, other: KnownSet) -> KnownSet {
        KnownSet(self.0 & !other.0)
    }

    #[inline]
    pub(crate) fn insert(&mut self, name: Known) {
        self.0 |= (1 << name as u8) & !1;
    }
}

const _: () = assert!(Known::ALL.len() < 64, "KnownSet is one u64");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for &known in Known::ALL {
            let upper = known.name().to_ascii_uppercase();
            assert_eq!(Known::of(known.name().as_bytes()), known, "{}", known.name());
            assert_eq!(Known::of(upper.as_bytes()), known, "{upper}");
        }
    }

    #[test]
    fn families_take_what_they_do_not_list() {
        for (name, known) in [
            ("l5d-ctx-custom", Known::L5dCtxOther),
            ("l5d-dst-x", Known::L5dDstOther),
            ("l5d-anything", Known::L5dOther),
            ("l5d_dtab", Known::Other),
            ("hosts", Known::Other),
            ("hast", Known::Other),
            ("x-b3-tracexd", Known::Other),
            ("content-lengtx", Known::Other),
            ("xontent-length", Known::Other),
            ("content-xength", Known::Other),
            ("", Known::Other),
        ] {
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
        }
    }
}
