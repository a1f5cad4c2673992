/*
 * Page faults of one thread as the host kernel counts them, since some moment. They include those
 * that KVM takes for the guest inside of KVM_RUN.
 */
#ifndef TWOFOLD_VMM_THREAD_FAULTS_H
#define TWOFOLD_VMM_THREAD_FAULTS_H

#include <stdint.h>
#include <sys/types.h>

struct thread_faults {
    pid_t tid;             /* 0: not started, or it has ended; atomic */
    uint64_t minor, major; /* tid set: before the start; else: the whole. Atomic */
};

/* By the thread itself: the faults from here on are counted, and until here. */
void thread_faults_start(struct thread_faults *f);
void thread_faults_stop(struct thread_faults *f);

/* By anybody; 0 before the start and where /proc does not tell. */
void thread_faults_read(const struct thread_faults *f, uint64_t *minor, uint64_t *major);

#endif
