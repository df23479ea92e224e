/* The CNI executable: hands one call to the dovetail daemon, or runs the engine in Python where there is none.
 *
 * Reads CNI_* and standard input, opens CNI_NETNS, sends all of it over <run-dir>/cni.sock with the open
 * descriptor (SCM_RIGHTS), prints the answer and exits with its status. The frame is described in
 * src/dovetail/cni/frame.py. It falls back to `python -I -m dovetail.cli.plugin_main` when no daemon
 * answers or the daemon is in another network namespace. Where the daemon is was compiled in; what else the
 * fallback needs is in the file `.dovetail` beside the executable (run_dir=, state_dir=, python=), so that a call that
 * the daemon answers reads no file. DOVETAIL_RUN_DIR and DOVETAIL_STATE_DIR override both.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define STDIN_MAX (16u << 20)
#define FALLBACK 0xFFFFFFFFu
#define ANSWER_MAX (64u << 20)

extern char **environ;
static const char *unanswered = "it broke off or took too long";
#ifndef RUN_DIR
#define RUN_DIR "/run/dovetail"
#endif
static char run_dir[PATH_MAX] = RUN_DIR, state_dir[PATH_MAX] = "/var/lib/dovetail", python[PATH_MAX] = "python3";

static void failed(int code, const char *message)
{
	printf("{\"cniVersion\": \"1.1.0\", \"code\": %d, \"msg\": \"dovetail: ", code);
	for (; *message; message++) {
		if ((unsigned char)*message < ' ')
			printf("\\u%04x", (unsigned char)*message);
		else
			printf(*message == '"' || *message == '\\' ? "\\%c" : "%c", *message);
	}
	puts("\"}");
	exit(1);
}

static void setting(const char *line, const char *key, char *value)
{
	size_t length = strlen(key);
	if (!strncmp(line, key, length) && line[length] == '=')
		snprintf(value, PATH_MAX, "%s", line + length + 1);
}

static void read_settings(void)
{
	char path[PATH_MAX], text[3 * PATH_MAX + 64], *line, *rest;
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - 16);
	int fd = -1;
	if (length > 0) {
		path[length] = 0;
		strcpy(strrchr(path, '/'), "/.dovetail");
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (fd >= 0) {
		length = read(fd, text, sizeof text - 1);
		text[length > 0 ? length : 0] = 0;
		for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
			setting(line, "state_dir", state_dir);
			setting(line, "python", python);
		}
		close(fd);
	}
	if (getenv("DOVETAIL_STATE_DIR"))
		snprintf(state_dir, sizeof state_dir, "%s", getenv("DOVETAIL_STATE_DIR"));
}

/* What is of the usual size needs no memory from the system: each request for some costs a call and a page fault. */
static char first[65536], last[65536];

static char *room_for(size_t size)
{
	return size <= sizeof last ? last : malloc(size);
}

static char *read_input(size_t *length)
{
	size_t size = sizeof first;
	char *data = first, *larger;
	ssize_t got;
	*length = 0;
	for (;;) {
		got = read(0, data + *length, size - *length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			failed(5, "standard input cannot be read");
		if (got == 0)
			return data;
		*length += got;
		if (*length > STDIN_MAX)
			failed(6, "the configuration is larger than 16 MiB");
		if (*length == size) {
			larger = data == first ? malloc(size * 2) : realloc(data, size * 2);
			if (!larger)
				failed(5, "no memory");
			if (data == first)
				memcpy(larger, first, size);
			data = larger;
			size *= 2;
		}
	}
}

static void fall_back(const char *type, const char *input, size_t length)
{
	static char message[2 * PATH_MAX + 256];
	char *arguments[] = {python, "-I", "-m", "dovetail.cli.plugin_main", NULL};
	read_settings();
	int memory = memfd_create("cni", MFD_CLOEXEC);
	if (memory < 0 || write(memory, input, length) != (ssize_t)length || lseek(memory, 0, SEEK_SET) || dup2(memory, 0) < 0)
		failed(5, "the configuration cannot be passed on");
	setenv("DOVETAIL_CNI_TYPE", type, 1);
	setenv("DOVETAIL_RUN_DIR", run_dir, 1);
	setenv("DOVETAIL_STATE_DIR", state_dir, 1);
	execvp(python, arguments);
	snprintf(message, sizeof message, "no daemon answers on %s/cni.sock (%s), and %s cannot be started (%s):"
		" start the daemon, or install the plugins again with: dovetail cni install",
		run_dir, unanswered, python, strerror(errno));
	failed(5, message);
}

static int wait_for(int fd, short events, int timeout_ms)
{
	struct pollfd poller = {.fd = fd, .events = events};
	int ready;
	do
		ready = poll(&poller, 1, timeout_ms);
	while (ready < 0 && errno == EINTR);
	return ready > 0;
}

static int send_request(int fd, const char *request, size_t length, int netns)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec vector = {(void *)request, length};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
	struct cmsghdr *header;
	ssize_t sent;
	if (netns >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof control;
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &netns, sizeof(int));
	}
	while (length) {
		sent = sendmsg(fd, &message, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -1;
		request += sent;
		length -= sent;
		vector.iov_base = (void *)request;
		vector.iov_len = length;
		message.msg_control = NULL;
		message.msg_controllen = 0;
	}
	return 0;
}

static int receive(int fd, void *data, size_t length, int timeout_ms)
{
	size_t done = 0;
	while (done < length) {
		if (!wait_for(fd, POLLIN, timeout_ms))
			return -1;
		ssize_t got = read(fd, (char *)data + done, length - done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -1;
		done += got;
	}
	return 0;
}

static void print_out(int fd, const char *data, size_t length)
{
	while (length) {
		ssize_t put = write(fd, data, length);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return;
		data += put;
		length -= put;
	}
}

/* Connect to the daemon. It wakes up while the request is still being put together. */
static int call_daemon(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (getenv("DOVETAIL_RUN_DIR"))
		snprintf(run_dir, sizeof run_dir, "%s", getenv("DOVETAIL_RUN_DIR"));
	errno = ENAMETOOLONG;
	if (strlen(run_dir) + sizeof "/cni.sock" <= sizeof address.sun_path) {
		strcpy(stpcpy(address.sun_path, run_dir), "/cni.sock");
		if (fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof address))
			return fd;
	}
	unanswered = strerror(errno);
	return -1;
}

int main(int argc, char **argv)
{
	char name[PATH_MAX];
	const char *netns_path = getenv("CNI_NETNS"), *command = getenv("CNI_COMMAND"), *limit = getenv("DOVETAIL_CNI_TIMEOUT");
	int timeout_ms = (limit && atoi(limit) > 0 ? atoi(limit) : 30) * 1000, netns = -1, fd;
	uint32_t sizes[2], answer[3];
	uint64_t own[2] = {0, 0};
	struct stat status;
	size_t input_length = 0, total, used;
	char *input = "", *request, *end, *body, *type;
	int i;

	snprintf(name, sizeof name, "%s", argc > 0 ? argv[0] : "dovetail");
	type = basename(name);
	fd = call_daemon();
	if (command && strcmp(command, "VERSION"))
		input = read_input(&input_length);
	if (netns_path && *netns_path)
		netns = open(netns_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (!stat("/proc/self/ns/net", &status)) {
		own[0] = status.st_dev;
		own[1] = status.st_ino;
	}
	total = 28 + strlen("PLUGIN=") + strlen(type) + 1 + input_length;
	for (i = 0; environ[i]; i++)
		if (!strncmp(environ[i], "CNI_", 4))
			total += strlen(environ[i]) + 1;
	if (!(request = room_for(total)))
		failed(5, "no memory");
	end = stpcpy(stpcpy(request + 28, "PLUGIN="), type) + 1;
	for (i = 0; environ[i]; i++)
		if (!strncmp(environ[i], "CNI_", 4))
			end = stpcpy(end, environ[i]) + 1;
	used = end - request;
	sizes[0] = used - 28;
	sizes[1] = input_length;
	memcpy(request, "DVT1", 4);
	memcpy(request + 4, sizes, 8);
	memcpy(request + 12, own, 16);
	memcpy(request + used, input, input_length);

	if (fd < 0 || send_request(fd, request, total, netns) || receive(fd, answer, sizeof answer, timeout_ms) ||
	    answer[1] > ANSWER_MAX || answer[2] > ANSWER_MAX)
		fall_back(type, input, input_length);
	if (answer[0] == FALLBACK) {
		unanswered = "it is in another network namespace";
		fall_back(type, input, input_length);
	}
	if (!(body = room_for((size_t)answer[1] + answer[2])) ||
	    receive(fd, body, (size_t)answer[1] + answer[2], timeout_ms))
		fall_back(type, input, input_length);
	print_out(1, body, answer[1]);
	print_out(2, body + answer[1], answer[2]);
	return (int)answer[0];
}
