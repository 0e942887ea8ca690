package flow

// The names of services by port: IANA's, in the spelling of its registry, or where it
// has none, or one that nobody means, that of the software which is found there. Ports
// from 32,768 on are in the range from which Linux takes those of clients, so they are
// named only where a service is found there nearly always.

// portNames are those that TCP and UDP share.
var portNames = map[uint16]string{
	7: "echo", 9: "discard", 19: "chargen", 53: "domain", 88: "kerberos", 111: "sunrpc", 389: "ldap", 443: "https", 464: "kpasswd",
	514: "syslog", 655: "tinc", 853: "domain-s", 1194: "openvpn", 2049: "nfs", 3389: "ms-wbt-server",
	3478: "stun", 5060: "sip", 5061: "sips", 5349: "stuns", 7946: "memberlist",
	8301: "consul-serf", 8302: "consul-serf-wan", 8600: "consul-dns", 9000: "cslistener",
	11211: "memcache", 20048: "mountd",
}

var tcpNames = map[uint16]string{
	20: "ftp-data", 21: "ftp", 22: "ssh", 23: "telnet", 25: "smtp", 43: "nicname", 49: "tacacs",
	79: "finger", 80: "http", 102: "iso-tsap", 110: "pop3", 113: "ident", 119: "nntp", 135: "epmap", 139: "netbios-ssn",
	143: "imap", 179: "bgp", 427: "svrloc", 445: "microsoft-ds", 465: "submissions", 502: "mbap", 514: "shell",
	515: "printer", 548: "afpovertcp", 554: "rtsp", 563: "nntps", 587: "submission", 593: "http-rpc-epmap",
	631: "ipp", 636: "ldaps", 646: "ldp", 749: "kerberos-adm", 830: "netconf-ssh", 860: "iscsi", 873: "rsync",
	989: "ftps-data", 990: "ftps", 993: "imaps", 995: "pop3s",
	1080: "socks", 1433: "ms-sql-s", 1494: "ica", 1521: "oracle", 1723: "pptp", 1883: "mqtt", 1935: "rtmp",
	2003: "graphite", 2181: "zookeeper", 2375: "docker", 2376: "docker-s", 2377: "swarm",
	2379: "etcd-client", 2380: "etcd-server", 2598: "citrixima",
	3000: "grafana", 3100: "loki", 3128: "squid", 3260: "iscsi-target", 3268: "msft-gc", 3269: "msft-gc-ssl",
	3300: "ceph", 3306: "mysql", 3690: "svn",
	4222: "nats", 4317: "otlp-grpc", 4318: "otlp-http", 4369: "epmd", 4949: "munin",
	5044: "beats", 5201: "iperf3", 5222: "xmpp-client", 5269: "xmpp-server", 5432: "postgresql", 5601: "kibana",
	5666: "nrpe", 5671: "amqps", 5672: "amqp", 5900: "rfb", 5984: "couchdb", 5985: "wsman", 5986: "wsmans",
	6379: "redis", 6432: "pgbouncer", 6443: "kubernetes", 6514: "syslog-tls", 6653: "openflow",
	6667: "ircu", 6697: "ircs-u", 6789: "ceph-mon",
	7000: "cassandra-internode", 7001: "cassandra-internode-tls", 7687: "bolt",
	8006: "proxmox", 8080: "http-alt", 8086: "influxdb", 8123: "clickhouse-http", 8140: "puppet", 8291: "winbox", 8300: "consul-rpc",
	8443: "https-alt", 8500: "consul", 8883: "secure-mqtt",
	9042: "cassandra", 9090: "prometheus", 9092: "kafka", 9093: "alertmanager", 9094: "alertmanager-mesh",
	9100: "node-exporter", 9200: "elasticsearch", 9300: "elasticsearch-transport", 9418: "git",
	10017: "tma-exporter", 10050: "zabbix-agent", 10051: "zabbix-trapper",
	10250: "kubelet", 10256: "kube-proxy", 10257: "kube-controller-manager", 10259: "kube-scheduler",
	15672: "rabbitmq-management", 16379: "redis-cluster", 16443: "microk8s", 24007: "glusterfs", 24224: "fluentd", 25672: "rabbitmq",
	26257: "cockroachdb", 26379: "redis-sentinel", 27017: "mongodb", 33060: "mysqlx", 61616: "activemq",
}

var udpNames = map[uint16]string{
	67: "bootps", 68: "bootpc", 69: "tftp", 123: "ntp", 137: "netbios-ns", 138: "netbios-dgm",
	161: "snmp", 162: "snmptrap", 319: "ptp-event", 320: "ptp-general", 443: "quic", 500: "isakmp",
	520: "rip", 521: "ripng", 546: "dhcpv6-client", 547: "dhcpv6-server", 623: "asf-rmcp", 646: "ldp",
	1434: "ms-sql-m", 1645: "old-radius", 1646: "old-radacct", 1701: "l2tp", 1812: "radius", 1813: "radius-acct", 1900: "ssdp",
	1985: "hsrp", 2055: "netflow", 2123: "gtp-control", 2152: "gtp-user",
	3702: "ws-discovery", 3784: "bfd-control", 4500: "ipsec-nat-t", 4739: "ipfix", 4784: "bfd-multi-ctl", 4789: "vxlan", 4791: "roce",
	5246: "capwap-control", 5247: "capwap-data", 5353: "mdns", 5355: "llmnr", 5405: "corosync", 5683: "coap", 5684: "coaps",
	6081: "geneve", 6343: "sflow", 6514: "syslog-tls", 8125: "statsd", 8472: "vxlan-linux", 9995: "netflow-alt",
	41641: "tailscale", 47808: "bacnet", 51820: "wireguard",
}

var sctpNames = map[uint16]string{
	2905: "m3ua", 3868: "diameter", 9899: "sctp-tunneling", 36412: "s1-control", 36422: "x2-control", 38412: "ng-control",
}
