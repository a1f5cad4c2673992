#include "vmm/pit.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define PIT_PORT     0x40
#define SPEAKER_PORT 0x61

/* Control word, Intel 8254 data sheet, "Control Word Format". */
#define CONTROL_OFFSET    3
#define CHANNEL(word)     ((word) >> 6)
#define CHANNEL_READ_BACK 3
#define ACCESS(word)      (((word) >> 4) & 3)
#define ACCESS_LATCH      0
#define MODE(word)        (((word) >> 1) & 7)

/* Port 0x61. */
#define SPEAKER_GATE    0x01 /* of channel 2 */
#define SPEAKER_DATA    0x02
#define SPEAKER_REFRESH 0x10 /* toggles every 15 us */
#define REFRESH_NS      15085

/* Younger than the oldest headers we build with. */
#ifndef KVM_PIT_FLAGS_SPEAKER_DATA_ON
#define KVM_PIT_FLAGS_SPEAKER_DATA_ON 0x00000002
#endif

struct pit {
    int vm_fd;
    struct end_hook *hook;
    pthread_mutex_t lock; /* two vCPUs may come first at the same time */
    bool made;
};

/* Creates KVM's PIT if it is not there yet, and reads its state. Needs the lock. */
static bool state_get(struct pit *pit, struct kvm_pit_state2 *state)
{
    struct kvm_pit_config config = { .flags = KVM_PIT_SPEAKER_DUMMY };
    char why[128];

    if (!pit->made && ioctl(pit->vm_fd, KVM_CREATE_PIT2, &config) < 0) {
        (void)snprintf(why, sizeof(why), "KVM can't create its timer (KVM_CREATE_PIT2): %s",
                       strerror(errno));
        pit->hook->end(pit->hook->ctx, VM_END_ERROR, 0, why);
        return false;
    }
    pit->made = true;
    return ioctl(pit->vm_fd, KVM_GET_PIT2, state) == 0;
}

/*
 * A control word sets how a channel counts; the count follows by a later
 * access. The commands that latch are about a channel that runs, and none does yet.
 */
static void control_write(struct kvm_pit_state2 *state, uint8_t word)
{
    struct kvm_pit_channel_state *channel;

    if (CHANNEL(word) == CHANNEL_READ_BACK || ACCESS(word) == ACCESS_LATCH)
        return;
    channel = &state->channels[CHANNEL(word)];
    channel->rw_mode = channel->read_state = channel->write_state = ACCESS(word);
    channel->mode = MODE(word) > 5 ? MODE(word) - 4 : MODE(word); /* 6 and 7 are 2 and 3 */
    channel->bcd = word & 1;
}

static void pit_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct pit *pit = dev;
    struct kvm_pit_state2 state;

    (void)size; /* the chip has eight data lines */
    (void)pthread_mutex_lock(&pit->lock);
    if (state_get(pit, &state) && offset == CONTROL_OFFSET) {
        control_write(&state, (uint8_t)value);
        (void)ioctl(pit->vm_fd, KVM_SET_PIT2, &state);
    }
    (void)pthread_mutex_unlock(&pit->lock);
}

/* A channel that nobody programmed reads as 0; the control register can't be read. */
static uint64_t pit_read(void *dev, uint64_t offset, unsigned size)
{
    struct pit *pit = dev;
    struct kvm_pit_state2 state;

    (void)offset;
    (void)size;
    (void)pthread_mutex_lock(&pit->lock);
    (void)state_get(pit, &state);
    (void)pthread_mutex_unlock(&pit->lock);
    return 0;
}

static void speaker_write(void *dev, uint64_t offset, unsigned size, uint64_t value)
{
    struct pit *pit = dev;
    struct kvm_pit_state2 state;

    (void)offset;
    (void)size;
    (void)pthread_mutex_lock(&pit->lock);
    if (state_get(pit, &state)) {
        state.channels[2].gate = value & SPEAKER_GATE;
        state.flags &= ~(uint32_t)KVM_PIT_FLAGS_SPEAKER_DATA_ON;
        if (value & SPEAKER_DATA)
            state.flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
        if (ioctl(pit->vm_fd, KVM_SET_PIT2, &state) < 0) {
            /* Kernels before 6.1 don't know that flag; the speaker is silent anyway. */
            state.flags &= ~(uint32_t)KVM_PIT_FLAGS_SPEAKER_DATA_ON;
            (void)ioctl(pit->vm_fd, KVM_SET_PIT2, &state);
        }
    }
    (void)pthread_mutex_unlock(&pit->lock);
}

static uint64_t speaker_read(void *dev, uint64_t offset, unsigned size)
{
    struct pit *pit = dev;
    struct kvm_pit_state2 state;
    struct timespec now;
    uint64_t value = 0;

    (void)offset;
    (void)size;
    (void)pthread_mutex_lock(&pit->lock);
    if (state_get(pit, &state)) {
        value = state.channels[2].gate ? SPEAKER_GATE : 0;
        if (state.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON)
            value |= SPEAKER_DATA;
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        if (((uint64_t)now.tv_nsec / REFRESH_NS) & 1)
            value |= SPEAKER_REFRESH;
    }
    (void)pthread_mutex_unlock(&pit->lock);
    return value;
}

int pit_create(struct pit **out, struct bus *bus, int vm_fd, struct end_hook *hook,
               struct error *err)
{
    static const struct bus_ops timer = { .read = pit_read, .write = pit_write };
    static const struct bus_ops speaker = { .read = speaker_read, .write = speaker_write };
    struct pit *pit = calloc(1, sizeof(*pit));
    int rc;

    *out = NULL;
    if (!pit)
        return error_set(err, -ENOMEM, "no memory for the timer");
    pit->vm_fd = vm_fd;
    pit->hook = hook;
    (void)pthread_mutex_init(&pit->lock, NULL);
    rc = bus_add(bus, BUS_PIO, PIT_PORT, 4, &timer, pit, "pit", err);
    if (rc == 0)
        rc = bus_add(bus, BUS_PIO, SPEAKER_PORT, 1, &speaker, pit, "speaker", err);
    if (rc < 0) {
        pit_destroy(pit);
        return rc;
    }
    *out = pit;
    return 0;
}

void pit_destroy(struct pit *pit)
{
    if (!pit)
        return;
    (void)pthread_mutex_destroy(&pit->lock);
    free(pit);
}
