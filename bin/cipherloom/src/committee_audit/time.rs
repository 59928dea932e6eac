//! Times for people: UTC.

/// The seconds of a day.
const DAY: u64 = 86_400;

/// Writes a time in seconds since 1970 as a date, `2026-11-21`.
pub(super) fn date(seconds: u64) -> String {
    // Days are counted from 0000-03-01, so that a leap day is the last of its year (proleptic Gregorian calendar).
    let days = seconds / DAY + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Writes a time in seconds since 1970, `2026-11-21 13:45:00 UTC`.
pub(super) fn date_time(seconds: u64) -> String {
    let rest = seconds % DAY;
    format!("{} {:02}:{:02}:{:02} UTC", date(seconds), rest / 3600, rest / 60 % 60, rest % 60)
}

/// The time of this machine, in seconds since 1970.
pub(super) fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_751_328_000, "2025-07-01 00:00:00 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date_time(seconds), expected);
        }
    }
}
