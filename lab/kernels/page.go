package main

func (c *configuration) compare(done []*results) error { return nil }
