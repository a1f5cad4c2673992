#include "vmm/rtc.h"

#include <stdbool.h>

enum {
    RTC_SECOND = 0x00,
    RTC_MINUTE = 0x02,
    RTC_HOUR = 0x04,
    RTC_WEEKDAY = 0x06,
    RTC_DAY = 0x07,
    RTC_MONTH = 0x08,
    RTC_YEAR = 0x09,
    RTC_A = 0x0a,
    RTC_B = 0x0b,
    RTC_C = 0x0c,
    RTC_D = 0x0d,
    RTC_CENTURY = 0x32,
};

#define A_UPDATING 0x80
#define A_DIVIDER  0x26 /* 32768 Hz, 1024 Hz periodic rate: what firmware leaves */
#define B_SET      0x80
#define B_BINARY   0x04
#define B_24_HOURS 0x02
#define C_UPDATED  0x10
#define D_VALID    0x80
#define HOUR_PM    0x80

/* The "update in progress" bit rises 244 us before the second changes. */
#define UPDATE_NS 244141

static uint8_t encode(const struct rtc *rtc, int value)
{
    return (uint8_t)(rtc->reg[RTC_B] & B_BINARY ? value : value / 10 * 16 + value % 10);
}

static int decode(const struct rtc *rtc, uint8_t value)
{
    return rtc->reg[RTC_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

static uint8_t encode_hour(const struct rtc *rtc, int hour)
{
    if (rtc->reg[RTC_B] & B_24_HOURS)
        return encode(rtc, hour);
    return encode(rtc, (hour + 11) % 12 + 1) | (hour >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const struct rtc *rtc, uint8_t value)
{
    if (rtc->reg[RTC_B] & B_24_HOURS)
        return decode(rtc, value);
    return decode(rtc, value & 0x7f) % 12 + (value & HOUR_PM ? 12 : 0);
}

/* Brings the time registers up to date, unless the guest stopped them. */
static void latch(struct rtc *rtc, int64_t second)
{
    time_t t = second + rtc->offset;
    struct tm tm;

    if (rtc->reg[RTC_B] & B_SET || !gmtime_r(&t, &tm))
        return;
    rtc->reg[RTC_SECOND] = encode(rtc, tm.tm_sec);
    rtc->reg[RTC_MINUTE] = encode(rtc, tm.tm_min);
    rtc->reg[RTC_HOUR] = encode_hour(rtc, tm.tm_hour);
    rtc->reg[RTC_WEEKDAY] = encode(rtc, tm.tm_wday + 1);
    rtc->reg[RTC_DAY] = encode(rtc, tm.tm_mday);
    rtc->reg[RTC_MONTH] = encode(rtc, tm.tm_mon + 1);
    rtc->reg[RTC_YEAR] = encode(rtc, tm.tm_year % 100);
    rtc->reg[RTC_CENTURY] = encode(rtc, (tm.tm_year + 1900) / 100);
}

/* The reverse: the time registers become the guest's clock. */
static void set_clock(struct rtc *rtc, int64_t second)
{
    struct tm tm = {
        .tm_sec = decode(rtc, rtc->reg[RTC_SECOND]),
        .tm_min = decode(rtc, rtc->reg[RTC_MINUTE]),
        .tm_hour = decode_hour(rtc, rtc->reg[RTC_HOUR]),
        .tm_mday = decode(rtc, rtc->reg[RTC_DAY]),
        .tm_mon = decode(rtc, rtc->reg[RTC_MONTH]) - 1,
        .tm_year =
            decode(rtc, rtc->reg[RTC_YEAR]) + decode(rtc, rtc->reg[RTC_CENTURY]) * 100 - 1900,
    };

    rtc->offset = timegm(&tm) - second;
}

static bool is_time(unsigned index)
{
    return index == RTC_SECOND || index == RTC_MINUTE || index == RTC_HOUR ||
           (index >= RTC_WEEKDAY && index <= RTC_YEAR) || index == RTC_CENTURY;
}

void rtc_init(struct rtc *rtc)
{
    *rtc = (struct rtc){ .index = RTC_D };
    rtc->reg[RTC_A] = A_DIVIDER;
    rtc->reg[RTC_B] = B_24_HOURS;
    rtc->reg[RTC_D] = D_VALID;
}

uint8_t rtc_read(struct rtc *rtc, struct timespec now)
{
    uint8_t value;

    if (is_time(rtc->index))
        latch(rtc, now.tv_sec);
    value = rtc->reg[rtc->index];
    if (rtc->index == RTC_A && !(rtc->reg[RTC_B] & B_SET) && now.tv_nsec >= 1000000000 - UPDATE_NS)
        value |= A_UPDATING;
    if (rtc->index == RTC_C) {
        value = now.tv_sec != rtc->updated ? C_UPDATED : 0;
        rtc->updated = now.tv_sec;
    }
    return value;
}

void rtc_write(struct rtc *rtc, uint8_t value, struct timespec now)
{
    bool was_set = rtc->reg[RTC_B] & B_SET;

    switch (rtc->index) {
    case RTC_A:
        rtc->reg[RTC_A] = value & 0x7f;
        return;
    case RTC_B:
        latch(rtc, now.tv_sec);
        rtc->reg[RTC_B] = value;
        if (was_set && !(value & B_SET))
            set_clock(rtc, now.tv_sec);
        return;
    case RTC_C:
    case RTC_D:
        return;
    default:
        break;
    }
    if (is_time(rtc->index))
        latch(rtc, now.tv_sec);
    rtc->reg[rtc->index] = value;
    if (is_time(rtc->index) && !was_set)
        set_clock(rtc, now.tv_sec);
}
