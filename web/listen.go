package web

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// ListenTCP listens on addr, which a flag asked for; where addr is empty, on
// the fallback, or the next port that is free (moved is then true). An address
// that was asked for and is taken is an error that names the flag.
func ListenTCP(flag, addr, fallback string) (l net.Listener, moved bool, err error) {
	if addr != "" {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, false, &Error{What: fmt.Sprintf("cannot listen on --%s %s: %v", flag, addr, err), Do: "free it, or give another address with --" + flag}
		}
		return l, false, nil
	}
	host, port, err := net.SplitHostPort(fallback)
	if err != nil {
		return nil, false, fmt.Errorf("cannot use the default of --%s: %w", flag, err)
	}
	first, err := strconv.Atoi(port)
	if err != nil {
		return nil, false, fmt.Errorf("cannot use the default of --%s: %w", flag, err)
	}
	for p := first; p < first+100; p++ {
		l, err = net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p)))
		if err == nil {
			return l, p != first, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, false, &Error{What: fmt.Sprintf("cannot listen on %s or a port after it: %v", fallback, err), Do: "give an address with --" + flag}
}
