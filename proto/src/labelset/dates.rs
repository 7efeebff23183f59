//! Dates as people write them, in eight languages and more.
//!
//! Constraint: what OCR made of a digit is no date here: `validators` mends that first, where it is allowed to.

use chrono::{Datelike, NaiveDate};

use super::{Lexicon, fold, validators::digit_for};

/// Passed over: they are in no labelset, for they give no value.
/// In English, French, Spanish, Portuguese, German, Italian, Dutch and Russian, as they may stand before a date.
const WEEKDAYS: [&str; 55] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "lundi",
    "mardi",
    "mercredi",
    "jeudi",
    "vendredi",
    "samedi",
    "dimanche",
    "lunes",
    "martes",
    "miercoles",
    "jueves",
    "viernes",
    "sabado",
    "domingo",
    "segunda",
    "terca",
    "quarta",
    "quinta",
    "sexta",
    "feira",
    "montag",
    "dienstag",
    "mittwoch",
    "donnerstag",
    "freitag",
    "samstag",
    "sonntag",
    "lunedi",
    "martedi",
    "mercoledi",
    "giovedi",
    "venerdi",
    "sabato",
    "domenica",
    "maandag",
    "dinsdag",
    "woensdag",
    "donderdag",
    "vrijdag",
    "zaterdag",
    "zondag",
    "понедельник",
    "вторник",
    "среда",
    "четверг",
    "пятница",
    "суббота",
    "воскресенье",
];

/// A date in ISO 8601, of the words and numbers of one.
pub(super) fn date(text: &str, months: &Lexicon) -> Option<String> {
    /// The longest word that may stand between the parts without being a month: "year", "года", "del", "th".
    const FILLER: usize = 4;
    let mut numbers: Vec<&str> = Vec::new();
    let mut month = None;
    let (mut misread, mut ordinal) = (false, false);
    for word in words(text) {
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            numbers.push(word);
        } else if word.contains(|c: char| c.is_ascii_digit()) {
            // `20O7`: nobody wrote 20.
            return None;
        } else if let Some(code) = months.code(word).filter(|_| month.is_none()) {
            month = Some(code.parse::<u32>().ok()?);
        } else if word.chars().count() > FILLER && !WEEKDAYS.contains(&fold(word).as_str()) {
            return None;
        } else if is_for_digit(word) {
            // `1S.02.1995` is not the first of February; `1o de marzo` is the first of March.
            misread |= word != "o";
            ordinal |= word == "o";
        }
    }
    if misread || (ordinal && month.is_none()) {
        return None;
    }
    let number = |n: usize| numbers.get(n).and_then(|digits| digits.parse::<u32>().ok());
    let year_first = numbers.first()?.len() == 4;
    let (year, month, day) = match (numbers.len(), month, year_first) {
        (2, Some(month), true) => (numbers[0], month, number(1)?),
        (2, Some(month), false) => (numbers[1], month, number(0)?),
        (3, None, true) => (numbers[0], number(1)?, number(2)?),
        (3, None, false) => {
            let (day, month) = (number(0)?, number(1)?);
            if month > 12 { (numbers[2], day, month) } else { (numbers[2], month, day) }
        }
        _ => return None,
    };
    let date = NaiveDate::from_ymd_opt(full_year(year)?, month, day)?;
    (1600..=2150).contains(&date.year()).then(|| date.to_string())
}

/// Runs of digits and runs of letters.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).flat_map(|word| {
        let mut rest = word;
        std::iter::from_fn(move || {
            let digits = rest.starts_with(|c: char| c.is_ascii_digit());
            let border = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
            let (part, after) = rest.split_at(border);
            rest = after;
            (!part.is_empty()).then_some(part)
        })
    })
}

/// Whether a word is a letter that OCR reads for a digit.
fn is_for_digit(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().and_then(digit_for).is_some() && chars.next().is_none()
}

/// Two digits stand for 1950 to 2049.
fn full_year(digits: &str) -> Option<i32> {
    let year: i32 = digits.parse().ok()?;
    match digits.len() {
        4 => Some(year),
        2 => Some(if year < 50 { 2000 + year } else { 1900 + year }),
        _ => None,
    }
}
