package config

// Lines returns each setting as its flag.
func Lines(c *Config) []string {
	var lines []string
	for _, s := range c.settings() {
		lines = append(lines, "--"+s.flag()+"="+s.String())
	}
	return lines
}
