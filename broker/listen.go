package broker

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// portsTried is how far a default port may move.
const portsTried = 100

// listen opens the socket for Kafka clients. moved is true when the default
// port was taken and the next free one was chosen.
func listen(o *Options) (ln net.Listener, moved bool, err error) {
	if o.Addr != "" {
		ln, err = net.Listen("tcp", o.Addr)
		if err != nil {
			return nil, false, fmt.Errorf("cannot listen for Kafka clients on %s: %w: free the port or choose another with %s", o.Addr, err, o.Flag)
		}
		return ln, false, nil
	}
	for port := DefaultPort; port < DefaultPort+portsTried; port++ {
		ln, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return ln, port != DefaultPort, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, false, fmt.Errorf("cannot listen for Kafka clients: no free port from %d on: %w: name one with %s", DefaultPort, err, o.Flag)
}

// advertised is a listener whose address is the one that clients are told.
type advertised struct {
	net.Listener
	host string
}

func (l advertised) Addr() net.Addr {
	_, port, _ := net.SplitHostPort(l.Listener.Addr().String())
	return hostPort(net.JoinHostPort(l.host, port))
}

type hostPort string

func (hostPort) Network() string  { return "tcp" }
func (a hostPort) String() string { return string(a) }
