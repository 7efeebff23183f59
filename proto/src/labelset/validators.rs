//! What a valid value is, and its normal form. Lists (countries, units, months) are the labelset's; what stands
//! here are the rules that no list can hold.

use std::sync::Arc;

use serde::Deserialize;

use super::{Lexicon, dates::date, fold};

/// A validator as the labelset names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ValidatorKind {
    Imo,
    Mmsi,
    CallSign,
    Date,
    Length,
    Tonnage,
    Lexicon,
}

/// Reads the value of a label; its normal form is the same for all ways to write it.
#[derive(Debug, Clone)]
pub enum Validator {
    /// Seven digits with their check digit. Source: IMO resolution A.1117(30).
    Imo,
    /// Nine digits, the first three those of a country. Source: ITU-R M.585. The lexicon: countries to MIDs.
    Mmsi(Arc<Lexicon>),
    /// A ship station's call sign. Source: ITU Radio Regulations, article 19 and appendix 42 (who has which prefix).
    CallSign,
    /// To `YYYY-MM-DD`. Of 03/04/2024 the day comes first. The lexicon: numbers of months to their names.
    Date(Arc<Lexicon>),
    /// To metres. The lexicon: metres in a unit to its names.
    Length(Arc<Lexicon>),
    /// To the number alone. The lexicon: units to their names.
    Tonnage(Arc<Lexicon>),
    /// Any name of the lexicon, to its code.
    Lexicon(Arc<Lexicon>),
}

impl Validator {
    pub(super) fn new(kind: ValidatorKind, lexicon: Option<Arc<Lexicon>>) -> Result<Self, String> {
        match (kind, lexicon) {
            (ValidatorKind::Imo, None) => Ok(Self::Imo),
            (ValidatorKind::CallSign, None) => Ok(Self::CallSign),
            (ValidatorKind::Mmsi, Some(countries)) => Ok(Self::Mmsi(countries)),
            (ValidatorKind::Date, Some(months)) => Ok(Self::Date(months)),
            (ValidatorKind::Length, Some(units)) => Ok(Self::Length(units)),
            (ValidatorKind::Tonnage, Some(units)) => Ok(Self::Tonnage(units)),
            (ValidatorKind::Lexicon, Some(names)) => Ok(Self::Lexicon(names)),
            (kind, Some(_)) => Err(format!("the validator {kind:?} takes no lexicon")),
            (kind, None) => Err(format!("the validator {kind:?} needs a lexicon")),
        }
    }

    /// The normal form of a text that is right as it stands.
    pub fn read(&self, text: &str) -> Option<String> {
        match self {
            Self::Imo => imo(text),
            Self::Mmsi(countries) => mmsi(text, countries),
            Self::CallSign => call_sign(text),
            Self::Date(months) => date(text, months),
            Self::Length(units) => length(text, units),
            Self::Tonnage(units) => tonnage(text, units),
            Self::Lexicon(names) => names.code(text).map(str::to_owned),
        }
    }

    /// Whether a text may be a garbled value, though nobody can tell of which.
    pub fn may_be(&self, text: &str) -> bool {
        matches!(self, Self::CallSign) && garbled_call_sign(text)
    }

    /// The normal form of a text in which OCR may have taken digits for letters.
    pub fn read_garbled(&self, text: &str) -> Option<String> {
        self.read(text).or_else(|| match self {
            Self::CallSign | Self::Lexicon(_) => None,
            Self::Imo | Self::Mmsi(_) | Self::Date(_) | Self::Length(_) | Self::Tonnage(_) => {
                self.read(&with_digits(text))
            }
        })
    }
}

/// Letters that OCR reads for a digit become the digit, in words of which half are digits; in other words the
/// digits become letters (`0CT`).
fn with_digits(text: &str) -> String {
    let mut fixed = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| !c.is_alphanumeric() && digit_for(c).is_none()) {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        if digits * 2 >= word.chars().filter(|c| c.is_alphanumeric()).count() {
            fixed.extend(word.chars().map(|c| digit_for(c).unwrap_or(c)));
        } else {
            fixed.extend(word.chars().map(letter_for));
        }
    }
    fixed
}

/// The digit that OCR may have read as this character.
pub(super) fn digit_for(c: char) -> Option<char> {
    Some(match c {
        'O' | 'o' | 'D' | 'Q' | 'О' | 'о' => '0',
        'I' | 'i' | 'l' | '|' | '!' | ']' | 'І' => '1',
        'Z' | 'z' => '2',
        'З' | 'з' => '3',
        'S' | 's' => '5',
        'G' | 'b' | 'б' => '6',
        'B' | 'В' => '8',
        'g' | 'q' => '9',
        _ => return None,
    })
}

/// Whether OCR may have made this of a call sign: its last digit read as a letter, or its letters as small ones.
fn garbled_call_sign(text: &str) -> bool {
    let digit = text.contains(|c: char| c.is_ascii_digit());
    if !digit && text.contains(char::is_lowercase) {
        return false;
    }
    let capitals = text.to_uppercase();
    let mut chars = capitals.chars();
    let last = chars.next_back().and_then(digit_for);
    let with_digit = last.map(|digit| chars.chain([digit]).collect::<String>());
    call_sign(&capitals).is_some() || with_digit.is_some_and(|sign| call_sign(&sign).is_some())
}

/// The letter that OCR may have read as this digit.
fn letter_for(c: char) -> char {
    match c {
        '0' => 'O',
        '1' => 'I',
        '5' => 'S',
        '8' => 'B',
        c => c,
    }
}

fn imo(text: &str) -> Option<String> {
    let digits = digits_after(text, &["imo", "omi", "имо"])?;
    let values: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(10)).collect();
    let (check, body) = values.split_last().filter(|(_, body)| body.len() == 6)?;
    let sum: u32 = body.iter().zip((2..=7).rev()).map(|(digit, weight)| digit * weight).sum();
    (sum % 10 == *check && sum > 0).then_some(digits)
}

fn mmsi(text: &str, countries: &Lexicon) -> Option<String> {
    // By threes, as people write it.
    let digits = digits_after(&text.replace('-', " "), &["mmsi", "ммси"])?;
    (digits.len() == 9 && countries.code(digits.get(..3)?).is_some()).then_some(digits)
}

/// The digits of a text that holds nothing else but blanks and one of these words before them.
fn digits_after(text: &str, words: &[&str]) -> Option<String> {
    let text = text.trim().to_lowercase();
    let number = words.iter().find_map(|word| text.strip_prefix(word)).unwrap_or(&text);
    let number = number.trim_start_matches(|c: char| !c.is_alphanumeric());
    number
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.is_ascii_digit().then_some(c))
        .collect::<Option<String>>()
        .filter(|digits| !digits.is_empty())
}

/// Two characters of which one is a letter (never 0 or 1), then up to two letters and up to four digits; four to
/// seven in all. Blanks and hyphens do not count.
fn call_sign(text: &str) -> Option<String> {
    let sign: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
    let prefix = sign.get(..2)?.as_bytes();
    let in_prefix = |b: u8| b.is_ascii_uppercase() || (b'2'..=b'9').contains(&b);
    let valid_prefix = prefix.iter().all(|b| in_prefix(*b))
        && prefix.iter().any(u8::is_ascii_uppercase)
        && is_allocated(prefix[0], prefix[1]);
    let rest = sign.get(2..)?;
    let digits = rest.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let letters = rest.len() - digits.len();
    let valid_rest = letters <= 2 && digits.len() <= 4 && digits.bytes().all(|b| b.is_ascii_digit());
    ((4..=7).contains(&sign.len()) && valid_prefix && valid_rest).then_some(sign)
}

/// Whether some country has call signs that begin so. All pairs of letters but those with Q are allocated, and all
/// of a digit and a letter; of a letter and a digit, those below. Source: ITU Radio Regulations, appendix 42.
fn is_allocated(first: u8, second: u8) -> bool {
    let digits: &[u8] = match first {
        b'Q' => return false,
        _ if !second.is_ascii_digit() => return true,
        b'A'..=b'D' | b'F' | b'G' | b'I' | b'K'..=b'N' | b'P' | b'R' | b'W' | b'Y' => b"23456789",
        b'E' => b"234567",
        b'H' => b"2346789",
        b'J' | b'T' | b'V' => b"2345678",
        b'S' => b"2356789",
        b'Z' => b"238",
        _ => b"",
    };
    digits.contains(&second)
}

fn length(text: &str, units: &Lexicon) -> Option<String> {
    let (number, unit) = number_and_unit(text)?;
    // No ship is a kilometre long: a single mark is the decimal mark, whatever follows it.
    let number = plain_number(number, false)?;
    let metres: f64 = if unit.is_empty() { 1.0 } else { units.code(unit)?.parse().ok()? };
    let value: f64 = number.parse().ok()?;
    let in_metres = if metres == 1.0 { number } else { format!("{:.2}", value * metres) };
    (1.0..=500.0).contains(&(value * metres)).then_some(in_metres)
}

fn tonnage(text: &str, units: &Lexicon) -> Option<String> {
    let (number, unit) = number_and_unit(text)?;
    if !unit.is_empty() {
        units.code(unit)?;
    }
    let number = plain_number(number, true)?;
    let value: f64 = number.parse().ok()?;
    (1.0..=500_000.0).contains(&value).then_some(number)
}

/// `45,30 m` to `45,30` and `m`; a unit may come first (`GT 812`).
fn number_and_unit(text: &str) -> Option<(&str, &str)> {
    let text = text.trim();
    let first = text.find(|c: char| c.is_ascii_digit())?;
    let last = text.rfind(|c: char| c.is_ascii_digit())? + 1;
    let (before, after) = (text.get(..first)?.trim(), text.get(last..)?.trim());
    let unit = if before.is_empty() { after } else { before };
    (before.is_empty() || fold(after).is_empty()).then_some((text.get(first..last)?, unit))
}

/// A number without thousands marks and with a decimal point. Where one mark stands before three digits
/// (`1.856`), `thousands` says what it is.
fn plain_number(number: &str, thousands: bool) -> Option<String> {
    let number: String = number.chars().filter(|c| !c.is_whitespace() && *c != '\'' && *c != '’').collect();
    let marks: Vec<usize> = number.match_indices(['.', ',']).map(|(at, _)| at).collect();
    let decimal = match marks.as_slice() {
        [] => None,
        [.., last] => {
            let mixed = number.contains('.') && number.contains(',');
            let three = number.len() - last == 4;
            let is_thousands = if mixed { false } else { marks.len() > 1 || (three && thousands) };
            (!is_thousands).then_some(*last)
        }
    };
    let mut plain = String::with_capacity(number.len());
    for (at, c) in number.char_indices() {
        match c {
            c if c.is_ascii_digit() => plain.push(c),
            '.' | ',' if Some(at) == decimal => plain.push('.'),
            '.' | ',' => {}
            _ => return None,
        }
    }
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn lexicon(entries: &[(&str, &[&str])]) -> Arc<Lexicon> {
        let codes = entries
            .iter()
            .map(|(code, names)| ((*code).to_owned(), names.iter().map(|name| (*name).to_owned()).collect()))
            .collect::<BTreeMap<String, Vec<String>>>();
        Arc::new(Lexicon::new(&codes).expect("a good lexicon"))
    }

    fn reads(validator: &Validator, cases: &[(&str, Option<&str>)]) {
        for (text, expected) in cases {
            assert_eq!(validator.read(text).as_deref(), *expected, "{text}");
        }
    }

    #[test]
    fn imo_numbers_have_a_check_digit() {
        reads(
            &Validator::Imo,
            &[
                ("9074729", Some("9074729")),
                ("IMO 9074729", Some("9074729")),
                ("IMO No. 9074729", None),
                ("9074728", None),
                ("907472", None),
                ("0000000", None),
                ("9O74729", None),
                ("", None),
            ],
        );
        assert_eq!(Validator::Imo.read_garbled("9O7472g").as_deref(), Some("9074729"));
        assert_eq!(Validator::Imo.read_garbled("9O74728"), None);
    }

    #[test]
    fn mmsis_begin_with_a_country() {
        let mmsi = Validator::Mmsi(lexicon(&[("PAN", &["351", "352"])]));
        reads(&mmsi, &[("351 234 567", Some("351234567")), ("999234567", None), ("35123456", None)]);
        assert_eq!(mmsi.read_garbled("35I23456S").as_deref(), Some("351234565"));
    }

    #[test]
    fn call_signs_have_the_form_of_a_ship_station() {
        reads(
            &Validator::CallSign,
            &[
                ("HPAB", Some("HPAB")),
                ("3FRK7", Some("3FRK7")),
                ("EA-1234", Some("EA1234")),
                ("WDB1234", Some("WDB1234")),
                ("OXAB12345", None),
                ("1ABC", None),
                ("22AB", None),
                ("QABC", None),
                ("O3AB", None),
                ("V9AB1", None),
                ("C6XY2", Some("C6XY2")),
                ("HPA", None),
                ("hpab", None),
                ("УБСЛ", None),
            ],
        );
        assert!(["UBCLS", "ubcl5", "3pxc7"].into_iter().all(|sign| Validator::CallSign.may_be(sign)));
        assert!(["Peru", "UBCLX", "Spain", "1ABC"].into_iter().all(|word| !Validator::CallSign.may_be(word)));
    }

    #[test]
    fn dates_in_many_forms() {
        let months = lexicon(&[("3", &["March", "marzo", "марта", "mar"]), ("10", &["October", "oct"])]);
        let date = Validator::Date(months);
        reads(
            &date,
            &[
                ("2024-03-07", Some("2024-03-07")),
                ("07/03/2024", Some("2024-03-07")),
                ("03/27/2024", Some("2024-03-27")),
                ("07.03.24", Some("2024-03-07")),
                ("7 March 2024", Some("2024-03-07")),
                ("March 7, 2024", Some("2024-03-07")),
                ("7th of March 2024", Some("2024-03-07")),
                ("7 de marzo de 2024", Some("2024-03-07")),
                ("7 марта 2024 г.", Some("2024-03-07")),
                ("2024年3月7日", Some("2024-03-07")),
                ("2024년 3월 7일", Some("2024-03-07")),
                ("12th day of March 2024", Some("2024-03-12")),
                ("07-MAR-2024", Some("2024-03-07")),
                ("31/02/2024", None),
                ("7 Marching 2024", None),
                ("March 2024", None),
                ("12:30", None),
                ("1o de marzo de 1824", Some("1824-03-01")),
                ("20O7-07-07", None),
                ("1S.02.1995", None),
                ("1o/10/1999", None),
            ],
        );
        assert_eq!(date.read_garbled("O7/03/2O24").as_deref(), Some("2024-03-07"));
        assert_eq!(date.read_garbled("07-0CT-2024").as_deref(), Some("2024-10-07"));
    }

    #[test]
    fn lengths_are_metres() {
        let length = Validator::Length(lexicon(&[("1", &["m", "metres", "м"]), ("0.3048", &["ft"])]));
        reads(
            &length,
            &[
                ("45.3 m", Some("45.3")),
                ("45,30 metres", Some("45.30")),
                ("45.300", Some("45.300")),
                ("100 ft", Some("30.48")),
                ("45 kg", None),
                ("4500 m", None),
                ("m", None),
            ],
        );
    }

    #[test]
    fn tonnages_are_numbers() {
        let tonnage = Validator::Tonnage(lexicon(&[("GT", &["GT", "TRB"])]));
        reads(
            &tonnage,
            &[
                ("4,421 GT", Some("4421")),
                ("1.580 TRB", Some("1580")),
                ("1 856", Some("1856")),
                ("1,234.5 GT", Some("1234.5")),
                ("GT 812", Some("812")),
                ("812.5", Some("812.5")),
                ("4,421 kg", None),
            ],
        );
    }
}
