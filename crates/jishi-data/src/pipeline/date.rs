//! Dates as numbers.

use serde::{Deserialize, Serialize};

const DAY: i64 = 86_400_000_000;

/// A number that a date becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatePart {
    /// Year of the Gregorian calendar.
    Year,
    /// Month, 1 to 12.
    Month,
    /// Day of the month, 1 to 31.
    Day,
    /// Weekday: Monday is 0.
    Weekday,
    /// Days since 1970-01-01 00:00 UTC, the time of day as their fraction.
    Days,
}

impl DatePart {
    /// All, in the order in which they become numbers.
    pub const ALL: [Self; 5] = [Self::Year, Self::Month, Self::Day, Self::Weekday, Self::Days];

    /// Its name behind that of the column.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Year => "year",
            Self::Month => "month",
            Self::Day => "day",
            Self::Weekday => "weekday",
            Self::Days => "days",
        }
    }

    /// Its value at a moment, in microseconds since 1970-01-01 00:00 UTC.
    #[must_use]
    pub fn of(self, micros: i64) -> f64 {
        let days = micros.div_euclid(DAY);
        match self {
            Self::Year => civil(days).0 as f64,
            Self::Month => civil(days).1 as f64,
            Self::Day => civil(days).2 as f64,
            // 1970-01-01 was a Thursday.
            Self::Weekday => (days + 3).rem_euclid(7) as f64,
            Self::Days => days as f64 + micros.rem_euclid(DAY) as f64 / DAY as f64,
        }
    }
}

/// Year, month and day of a day counted from 1970-01-01. Years are taken to begin in March, so that a
/// leap day ends one; 400 of them have 146,097 days (Neri & Schneider 2023 give the derivation).
fn civil(days: i64) -> (i64, i64, i64) {
    let from_march_0 = days + 719_468;
    let era = from_march_0.div_euclid(146_097);
    let day_of_era = from_march_0.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_are_those_of_the_calendar() {
        let mut day: jiff::civil::Date = "1895-12-30".parse().unwrap();
        let end: jiff::civil::Date = "2105-01-02".parse().unwrap();
        while day < end {
            let micros = day.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_microsecond();
            let parts = DatePart::ALL.map(|p| p.of(micros + 3_600_000_000) as i64);
            let expected = [
                i64::from(day.year()),
                i64::from(day.month()),
                i64::from(day.day()),
                i64::from(day.weekday().to_monday_zero_offset()),
            ];
            assert_eq!(parts[..4], expected, "{day}");
            day = day.tomorrow().unwrap();
        }
        assert_eq!(DatePart::Days.of(DAY * 3 / 2), 1.5);
        assert_eq!(DatePart::Days.of(-DAY / 2), -0.5);
    }

    #[test]
    fn no_moment_overflows() {
        for micros in [i64::MIN, i64::MAX] {
            assert!(DatePart::ALL.iter().all(|p| p.of(micros).is_finite()));
        }
    }
}
