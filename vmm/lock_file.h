/*
 * A file whose lock says that somebody has something. The kernel drops it with its holder, also
 * when that is killed.
 */
#ifndef TWOFOLD_VMM_LOCK_FILE_H
#define TWOFOLD_VMM_LOCK_FILE_H

/*
 * Opens `path`, made with mode 0600 if it isn't there, and locks it. The holder removes the file
 * before it closes it, so a lock on a file that was removed meanwhile is none, and a new one is
 * made. Returns the file, close-on-exec; -EWOULDBLOCK: somebody holds it; or another -errno.
 */
int lock_file(const char *path);

#endif
