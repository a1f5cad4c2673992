/*
 * CMOS clock (MC146818) without its interrupts: the host's time in UTC, in the
 * format that register B asks for. Locking is the caller's.
 */
#ifndef TWOFOLD_VMM_RTC_H
#define TWOFOLD_VMM_RTC_H

#include <stdint.h>
#include <time.h>

#define RTC_REGISTERS 128

struct rtc {
    uint8_t reg[RTC_REGISTERS];
    uint8_t index;   /* as port 0x70 selected it */
    int64_t offset;  /* seconds; what the guest set its clock ahead of the host's */
    int64_t updated; /* the second at which register C was last read */
};

void rtc_init(struct rtc *rtc);

/* `now` is CLOCK_REALTIME. */
uint8_t rtc_read(struct rtc *rtc, struct timespec now);
void rtc_write(struct rtc *rtc, uint8_t value, struct timespec now);

#endif
