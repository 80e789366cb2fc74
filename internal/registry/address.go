package registry

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

// reserved are the blocks that no public host has, beside those that netip
// tells by itself. Source: the IANA special-purpose address registries.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier-grade NAT
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarking
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, broadcast
	netip.MustParsePrefix("100::/64"),        // discard
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("64:ff9b:1::/48"),  // local NAT64
	netip.MustParsePrefix("fec0::/10"),       // site-local, deprecated
}

var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96") // the IPv4 address in the last 4 bytes
	sixTo4 = netip.MustParsePrefix("2002::/16")    // the IPv4 address in bytes 2 to 5
)

// Internal reports whether an address is not one of the public internet:
// private, loopback, link-local (cloud metadata is there), multicast,
// unspecified or reserved, also where IPv6 wraps such an IPv4 address. A webhook
// goes there only when its downstream says internal: true. A URL is checked when
// it is read; whoever dials must check the address that a name resolved to.
func Internal(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() {
		return true
	}
	for _, p := range reserved {
		if p.Contains(a) {
			return true
		}
	}
	if a.Is6() {
		b := a.As16()
		switch {
		case nat64.Contains(a):
			return Internal(netip.AddrFrom4([4]byte(b[12:16])))
		case sixTo4.Contains(a):
			return Internal(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	return false
}

// localSuffixes end names that no public resolver answers.
// Source: RFC 6761, RFC 6762, and ICANN's reservation of .internal.
var localSuffixes = []string{"localhost", "local", "internal", "home.arpa"}

func internalName(host string) bool {
	for _, suffix := range localSuffixes {
		if host == suffix || strings.HasSuffix(host, "."+suffix) {
			return true
		}
	}
	return false
}

// webhookURL checks where a webhook goes. internal says that the downstream
// declared itself to be inside.
func readURL(v strictyaml.Value, internal bool) string {
	s, ok := v.Scalar("a URL such as https://crm.example/consent")
	if !ok {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || strings.TrimSpace(s) != s {
		v.Fault("url is not a URL: write one such as https://crm.example/consent")
		return ""
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		v.Fault("url wants http:// or https:// at its beginning")
		return ""
	case u.Hostname() == "":
		v.Fault("url names no host")
		return ""
	case u.Scheme == "http" && !internal:
		v.Fault("http is sent in the clear: use https, or internal: true for a system inside your own network")
	}
	if u.User != nil {
		v.Fault("url holds a name or password: webhooks are signed with secrets instead")
	}
	if u.Fragment != "" || strings.HasSuffix(s, "#") {
		v.Fault("url has a fragment (#…), which is never sent: leave it out")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			v.Fault("url has port %s: ports are 1 to 65535", strictyaml.Quote(port))
		}
	}
	checkHost(v, u.Hostname(), internal)
	return s
}

func checkHost(v strictyaml.Value, host string, internal bool) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if addr, err := netip.ParseAddr(host); err == nil {
		if Internal(addr) && !internal {
			v.Fault("url goes to %s, which is no public address: say internal: true if it is a system of your own", addr)
		}
		return
	}
	labels := strings.Split(host, ".")
	last := labels[len(labels)-1]
	switch {
	case last == "" || last[0] >= '0' && last[0] <= '9':
		// 2130706433, 0x7f.1 and 127.1 are 127.0.0.1 to some resolvers.
		v.Fault("url has host %s, which is neither a name nor a whole IP address", strictyaml.Quote(host))
	case internal:
	case internalName(host):
		v.Fault("url goes to %s, which is no public name: say internal: true if it is a system of your own", strictyaml.Quote(host))
	case len(labels) == 1:
		v.Fault("url goes to %s, a name without a domain: say internal: true if it is a system of your own", strictyaml.Quote(host))
	}
}
