//! What a client reads of its own token: when it expires. The relay alone says whether a token is good.

use yrs::Any;
use yrs::any::Number;

/// When a JWT expires, in milliseconds since 1970 by the clock of whoever made it; nothing when it does not say so, or is
/// no JWT.
pub fn expires_ms(token: &str) -> Option<u64> {
    let claims = String::from_utf8(base64url(token.split('.').nth(1)?)?).ok()?;
    // Read as embedded values are: another reader of JSON takes 10 kB of the browser's module.
    let Any::Map(claims) = Any::from_json(&claims).ok()? else { return None };
    let exp = match claims.get("exp")? {
        Any::Number(Number::Float(exp)) => *exp,
        Any::Number(Number::Int(exp)) => *exp as f64,
        _ => return None,
    };
    (exp >= 0.0).then_some((exp * 1000.0) as u64)
}

/// Milliseconds after which a token that lives for another `life_ms` is to be replaced: after 70 to 80 % of that, and
/// no later than 30 s before its end if it lives for longer than a minute. Tokens that were made at the same time, as
/// after a restart of their maker, differ in their bytes and so in the part: nobody asks all at once.
pub fn refresh_after_ms(token: &str, life_ms: u64) -> u64 {
    let latest = life_ms / 10 * 8;
    let latest = if life_ms > 60_000 { latest.min(life_ms - 30_000) } else { latest };
    // FNV-1a.
    let hash = token.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    latest.saturating_sub((hash >> 32) % (life_ms / 10).max(1))
}

/// Bytes of base64url without padding; nothing when a sign is not of it.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0);
    for sign in text.trim_end_matches('=').bytes() {
        let value = match sign {
            b'A'..=b'Z' => sign - b'A',
            b'a'..=b'z' => sign - b'a' + 26,
            b'0'..=b'9' => sign - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tc1_the_expiry_of_a_token_is_read_and_anything_else_has_none() {
        // {"sub":"ada?>","exp":1300819380}
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGE_PiIsImV4cCI6MTMwMDgxOTM4MH0.c2ln";
        assert_eq!(expires_ms(token), Some(1_300_819_380_000));
        // {"sub":"ada"}, and what is no JWT.
        for token in ["e30.eyJzdWIiOiJhZGEifQ.", "", "a.b.c", "secret", "e30.e30+.x", "x.\u{e9}.y"] {
            assert_eq!(expires_ms(token), None, "{token}");
        }
    }

    proptest! {
        #[test]
        fn tc1_a_token_is_replaced_well_before_its_end_and_not_at_once(token: String, life_ms in 0_u64..1 << 40) {
            let after = refresh_after_ms(&token, life_ms);
            prop_assert!(after <= life_ms / 10 * 8);
            if life_ms > 60_000 {
                prop_assert!(after <= life_ms - 30_000);
            }
            prop_assert!(after >= life_ms / 10 * 3, "{after}");
        }
    }
}
